"""The order path: from an active signal or a person's wish to orders, fills and positions."""
