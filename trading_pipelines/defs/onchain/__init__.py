"""Large transactions and flows of exchanges as assets."""
