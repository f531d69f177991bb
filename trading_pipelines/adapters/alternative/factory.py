"""Which sources deliver a dataset, by the settings.

Belongs here: choosing and building them. Does not belong here: what they deliver. The simulated market has simulated
sources only: what is true of real coins says nothing of its own. An archive ends in the past and has none: what sources
say now was not known then.
"""

from collections.abc import Callable, Mapping
from typing import Any

from trading_pipelines.adapters.alternative.base import AlternativeSource
from trading_pipelines.domain.simulation.market import EXCHANGE as SIMULATED_EXCHANGE
from trading_pipelines.settings import Settings, SourceName

Sources = tuple[AlternativeSource[Any], ...]
Builder = Callable[[Settings], Sources]


def datasets() -> tuple[str, ...]:
    """Names of all datasets; each is an asset."""
    return tuple(_SIMULATED)


def open_dataset(settings: Settings, dataset: str) -> Sources:
    """Build the sources of a dataset; those that are switched off are left out.

    A source that lacks its key is built, and says so when it is asked.
    """
    if settings.exchange == SIMULATED_EXCHANGE:
        return _SIMULATED[dataset](settings)
    return () if settings.source is SourceName.ARCHIVE else _OUTSIDE[dataset](settings)


def open_sources(settings: Settings) -> dict[str, Sources]:
    """Build all sources by dataset."""
    return {dataset: open_dataset(settings, dataset) for dataset in datasets()}


def _figures(dataset: str) -> Builder:
    def build(settings: Settings) -> Sources:
        from trading_pipelines.adapters.alternative.simulated.indices import SimulatedFigures

        return (SimulatedFigures(settings.simulation, dataset),)

    return build


def _texts(dataset: str) -> Builder:
    def build(settings: Settings) -> Sources:
        from trading_pipelines.adapters.alternative.simulated.texts import SimulatedTexts

        return (SimulatedTexts(settings.simulation, dataset, settings.alternative.texts),)

    return build


def _nothing_yet(settings: Settings) -> Sources:
    return ()


_SIMULATED: Mapping[str, Builder] = {
    "fear_greed": _figures("fear_greed"),
    "coin_metrics": _figures("coin_metrics"),
    "social_metrics": _figures("social_metrics"),
    "derivatives_sentiment": _figures("derivatives_sentiment"),
    "news": _texts("news"),
    "posts": _texts("posts"),
}
_OUTSIDE: Mapping[str, Builder] = dict.fromkeys(_SIMULATED, _nothing_yet)
