"""The market as a whole: technical signals, ranking, anomalies, composite scores."""
