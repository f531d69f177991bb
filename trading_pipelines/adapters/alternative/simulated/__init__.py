"""Counterparts of the outside sources for the simulated market; they need neither keys nor network."""
