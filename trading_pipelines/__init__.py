"""Crypto trading signals from raw candles to executed orders, as one lineage of Dagster assets."""
