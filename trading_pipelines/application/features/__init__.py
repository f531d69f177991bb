"""The stored features of closed bars, and what strategies see of them."""
