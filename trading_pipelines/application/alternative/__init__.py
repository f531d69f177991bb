"""What is known besides prices: collected, read, added up, as of the time at which it was known."""
