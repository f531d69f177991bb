"""What prediction markets expect of coins: questions, ladders of prices, implied distributions."""
