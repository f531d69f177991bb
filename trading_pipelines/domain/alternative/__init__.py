"""What is known besides prices: dated numbers and texts, and when each of them could be known."""
