"""Plain SQL migrations, forward only, applied in the order of their number by `store.migrate`."""
