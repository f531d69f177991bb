"""News and posts about the simulated market as sources; they are as careless as real ones.

Belongs here: taking what is written through the same checks as texts from outside. Does not belong here: what is
written (`domain.simulation.writers`).
"""

from datetime import datetime

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.adapters.alternative.reading import sift
from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.domain.alternative.texts import TextItem, TextKind, TextLimits, text_item
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.domain.simulation.writers import SimulatedWriters, Written

DATASETS = {"news": TextKind.NEWS, "posts": TextKind.POST}


class SimulatedTexts:
    """Texts of one kind; the whole history is always there."""

    def __init__(self, spec: SimulatedMarketSpec, dataset: str, limits: TextLimits) -> None:
        self.name = f"simulated_{dataset}"
        self._writers = SimulatedWriters(spec)
        self._kind = DATASETS[dataset]
        self._limits = limits

    def fetch(self, since: datetime, until: datetime) -> Delivery[TextItem]:
        """What could be fetched for the first time in (since, until]."""
        written = self._writers.texts(self._kind, since, until)
        return sift(written, self._item, lambda text: text.external_id)

    def _item(self, text: Written) -> TextItem:
        return text_item(
            SIMULATED,
            text.external_id,
            text.kind,
            text.title,
            text.body,
            text.url,
            text.author,
            text.published_at,
            text.known_at,
            self._limits,
        )
