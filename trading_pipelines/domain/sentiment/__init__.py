"""From texts to a number per coin.

Belongs here: reading a text (normal form, language, coins, words), telling repeated texts apart, and putting scores
together over time. Does not belong here: where texts come from (`adapters.alternative`), models that read them
(`adapters.scorers`) and storing (`application.alternative.sentiment`).
"""
