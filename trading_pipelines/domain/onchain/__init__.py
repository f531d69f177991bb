"""What moves on chains between exchanges and large holders, and what is read out of it."""
