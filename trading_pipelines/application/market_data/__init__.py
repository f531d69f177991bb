"""Candles, funding, quotes and what else a venue tells, from a source into the database."""
