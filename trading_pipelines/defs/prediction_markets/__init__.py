"""Prediction markets, their odds and implied distributions as assets."""
