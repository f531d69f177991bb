"""What the portfolio's rules say to one more trade, and what a person should know about the open ones."""
