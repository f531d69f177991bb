"""What the strategies of a session propose at the closes of bars, read once for a whole span of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.application.features.strategy_inputs import load_input, to_microseconds
from trading_pipelines.application.signals.strategies import build_strategy
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.signals.gates import Proposals
from trading_pipelines.domain.strategies.base import Predictions, Signals, Strategy
from trading_pipelines.domain.strategies.proposals import propose
from trading_pipelines.store.repositories import instruments as instrument_store


@dataclass(frozen=True)
class Universe:
    """The session's instruments by their stored id, its strategies, and the feature set that decisions read."""

    instruments: dict[int, Instrument]
    timeframe: Timeframe
    feature_set_id: int
    strategies: dict[str, Strategy]
    """By the name under which the session knows them, in the order of precedence."""

    @classmethod
    def of(cls, connection: psycopg.Connection[Any], session: TradingSession) -> "Universe":
        """Look the session's symbols up; a symbol that is not stored yet is left out.

        Raises
        ------
        UserError
            A strategy of the session cannot be built.
        """
        stored = instrument_store.by_symbol(connection, session.exchange)
        return cls(
            {stored[s].instrument_id: stored[s].instrument for s in session.symbols if s in stored},
            Timeframe(session.timeframe),
            current_feature_set(connection),
            session_strategies(session),
        )


def session_strategies(session: TradingSession) -> dict[str, Strategy]:
    """The strategies of a session by name, built with its parameters."""
    return {name: build_strategy(name, session.strategy_params.get(name)) for name in session.strategies}


@dataclass(frozen=True)
class StrategyCandidates:
    """Proposals of one strategy for some instruments and bars, by time, then instrument.

    Attributes
    ----------
    ts : array of int64
        Open times of the bars in microseconds since 1970.
    instrument_id : array of int64
    source, row : arrays of int64
        Where in `sources` the answer of the strategy stands.
    """

    name: str
    strategy: Strategy
    proposals: Proposals
    ts: npt.NDArray[np.int64]
    instrument_id: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    sources: Sequence[tuple[Signals, Predictions | None, int]]

    def __len__(self) -> int:
        return len(self.ts)

    def between(self, start: int, end: int) -> "StrategyCandidates":
        """Those of the bars that open in [start, end), in microseconds."""
        part = slice(*np.searchsorted(self.ts, [start, end]).tolist())
        return self._take(part)

    def closed_by(self, moment: int) -> "StrategyCandidates":
        """Those of the bars that are closed at that moment, in microseconds."""
        return self._take(slice(None, int(np.searchsorted(self.proposals.closed_at, moment, side="right"))))

    def exit_flags(self, i: int) -> int:
        """Which side of an open position the strategy wants closed."""
        return int(self._told(i).exit[self.row[i]])

    def factors(self, i: int) -> dict[str, float]:
        """What the answer rests on, by name; what is not known is left out."""
        values = {name: float(array[self.row[i]]) for name, array in self._told(i).factors.items()}
        return {name: round(value, 10) for name, value in values.items() if np.isfinite(value)}

    def model_id(self, i: int) -> str | None:
        """The version whose prediction was read."""
        _, predictions, warm_up = self.sources[int(self.source[i])]
        model = -1 if predictions is None else int(predictions.model[warm_up + self.row[i]])
        return None if predictions is None or model < 0 else predictions.model_ids[model]

    def confidence_of(self, i: int, sign: int) -> float | None:
        """What the strategy still gives a side, where it proposes one."""
        proposed, probability = int(self.proposals.side[i]), float(self.proposals.probability[i])
        if proposed == 0 or not np.isfinite(probability):
            return None
        return probability if proposed == sign else 1.0 - probability

    def _take(self, part: slice) -> "StrategyCandidates":
        return replace(
            self,
            proposals=self.proposals.take(part),
            ts=self.ts[part],
            instrument_id=self.instrument_id[part],
            source=self.source[part],
            row=self.row[part],
        )

    def _told(self, i: int) -> Signals:
        return self.sources[int(self.source[i])][0]


@dataclass(frozen=True)
class Candidates:
    """Everything proposed in a span of bars, by strategy in the order of precedence."""

    parts: tuple[StrategyCandidates, ...]

    def at(self, ts: datetime) -> "Candidates":
        """Those of one bar."""
        moment = to_microseconds(ts)
        return Candidates(tuple(part.between(moment, moment + 1) for part in self.parts))

    @cached_property
    def closes(self) -> dict[int, tuple[float, float]]:
        """Close and ATR of one bar by instrument id; the first strategy that knows the ATR gives it."""
        found: dict[int, tuple[float, float]] = {}
        for part in self.parts:
            for instrument_id, close, atr in zip(
                part.instrument_id.tolist(),
                part.proposals.reference_price.tolist(),
                part.proposals.atr.tolist(),
                strict=True,
            ):
                if instrument_id not in found or not found[instrument_id][1] > 0:
                    found[instrument_id] = (close, atr)
        return found

    def __iter__(self) -> Iterator[StrategyCandidates]:
        return iter(self.parts)


def load_candidates(
    connection: psycopg.Connection[Any], universe: Universe, start: datetime, end: datetime
) -> Candidates:
    """Ask every strategy about the bars that open in [start, end)."""
    if not universe.instruments:
        return Candidates(())
    return Candidates(tuple(_ask(connection, universe, name, start, end) for name in universe.strategies))


def _ask(
    connection: psycopg.Connection[Any], universe: Universe, name: str, start: datetime, end: datetime
) -> StrategyCandidates:
    strategy = universe.strategies[name]
    sources = list[tuple[Signals, Predictions | None, int]]()
    proposals, ts, ids, rows = list[Proposals](), list[Any](), list[Any](), list[Any]()
    for instrument_id, instrument in universe.instruments.items():
        data = load_input(connection, instrument_id, instrument.symbol, universe.timeframe, strategy.needs, start, end)
        told, proposed = propose(strategy, data)
        sources.append((told, data.predictions, data.warm_up))
        proposals.append(proposed)
        ts.append(data.bars.ts[data.warm_up :])
        ids.append(np.full(len(proposed), instrument_id))
        rows.append(np.arange(len(proposed)))
    source = np.concatenate([np.full(len(p), i) for i, p in enumerate(proposals)])
    all_ts, all_ids, all_rows = np.concatenate(ts), np.concatenate(ids), np.concatenate(rows)
    order = np.lexsort((all_ids, all_ts))
    return StrategyCandidates(
        name,
        strategy,
        Proposals.concatenate(proposals).take(order),
        all_ts[order],
        all_ids[order],
        source[order],
        all_rows[order],
        sources,
    )
