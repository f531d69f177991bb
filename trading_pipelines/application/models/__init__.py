"""Model versions: trained, chosen, asked and watched."""
