"""Whether what is stored may be trusted: leak checks, lineage, and what corrections made stale."""
