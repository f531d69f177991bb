"""Where everything besides prices comes from: indices, texts, flows of coins, odds."""
