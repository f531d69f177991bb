"""Prediction markets of the simulated market as a source.

Belongs here: handing them out. Does not belong here: what they are made of (`domain.simulation.odds`).
"""

from datetime import datetime

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.domain.prediction_markets.markets import MarketOdds, PredictionMarket
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.odds import SimulatedOdds
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec


class SimulatedPredictionMarkets:
    """Ladders of a few coins; the whole history is always there."""

    name = "simulated_prediction_markets"

    def __init__(self, spec: SimulatedMarketSpec) -> None:
        self._odds = SimulatedOdds(SimulatedMarket(spec))

    def fetch(self, since: datetime, until: datetime) -> Delivery[PredictionMarket | MarketOdds]:
        """Markets as they stand at `until`, and their odds of (since, until]."""
        markets, odds = self._odds.known(since, until)
        return Delivery((*markets, *odds))
