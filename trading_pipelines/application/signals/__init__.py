"""Who decides and what: sessions, their strategies, and the signals that pass the gates."""
