"""What reads texts and says how they speak of a coin, behind one interface."""
