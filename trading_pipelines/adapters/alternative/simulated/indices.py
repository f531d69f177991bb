"""Indices and crowd figures of the simulated market as sources.

Belongs here: which figures which source delivers. Does not belong here: what they are made of
(`domain.simulation.crowd`).
"""

from collections.abc import Callable
from datetime import datetime

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.domain.alternative.series import Observation
from trading_pipelines.domain.simulation.crowd import SimulatedCrowd
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

DATASETS: dict[str, Callable[[SimulatedCrowd, datetime, datetime], list[Observation]]] = {
    "fear_greed": SimulatedCrowd.fear_greed,
    "coin_metrics": SimulatedCrowd.coin_metrics,
    "social_metrics": SimulatedCrowd.social_metrics,
    "derivatives_sentiment": SimulatedCrowd.derivatives,
}


class SimulatedFigures:
    """Figures of one dataset; the whole history is always there."""

    def __init__(self, spec: SimulatedMarketSpec, dataset: str) -> None:
        self.name = f"simulated_{dataset}"
        self._crowd = SimulatedCrowd(spec)
        self._figures = DATASETS[dataset]

    def fetch(self, since: datetime, until: datetime) -> Delivery[Observation]:
        """What became known in (since, until]."""
        return Delivery(tuple(self._figures(self._crowd, since, until)))
