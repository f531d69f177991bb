"""Measure what each source of features adds to the models of a symbol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from trading_pipelines.application.models.training import load_training_data
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.modelling.ablation import SourceAblation, ablate_sources
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import instruments


@dataclass(frozen=True)
class AblationReport:
    """What was compared: folds and rows of one symbol, and what each source adds."""

    symbol: str
    timeframe: str
    folds: int
    rows: int
    sources: tuple[SourceAblation, ...]


def sources_of(features: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Features by source; each series from outside is a source of its own."""
    found: dict[str, tuple[str, ...]] = {}
    for spec in registry.REGISTRY:
        if spec.name in features:
            source = spec.series or f"{spec.source}: {spec.group}"
            found[source] = (*found.get(source, ()), spec.name)
    return found


def measure_sources(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbol: str,
    timeframe: str,
    as_of: datetime,
    spec: TrainingSpec,
    on_fit: Callable[[int, int], None] = lambda done, total: None,
) -> AblationReport:
    """Walk forward over what was known at `as_of`, with everything and without one source at a time.

    Nothing is stored, and no version is made.

    Raises
    ------
    UserError
        Unknown symbol, or too little history.
    """
    if symbol not in instruments.by_symbol(connection, exchange):
        raise UserError(f"{symbol} is not stored for {exchange}: run `trading ingest` first")
    data = load_training_data(connection, exchange, symbol, timeframe, as_of, spec)
    found = ablate_sources(data, spec, sources_of(data.features), seed=spec.seed, on_fit=on_fit)
    return AblationReport(symbol, timeframe, spec.folds, len(data), found)
