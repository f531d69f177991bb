"""What texts say, as assets."""
