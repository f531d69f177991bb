"""Indices, crowd figures and texts as assets."""
