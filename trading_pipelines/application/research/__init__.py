"""The past once more: backtest, search and replay, and whether they and live agree."""
