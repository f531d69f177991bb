"""Check every stored asset of the decision path against what was known at its time.

Each check draws stored rows, computes them again from rows that were available by then, and compares. Together they
follow a trade back: derived candles, sentiment, flows, odds, features, labels, splits, fitted models with their
calibration, predictions, scores, decisions, strategies.

Belongs here: one check per asset. Does not belong here: the comparison (`domain.validation.leakage`) and the questions
put to strategies (`domain.validation.strategy_check`).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import psycopg
from psycopg.rows import dict_row
from pydantic import ValidationError

from trading_pipelines.application.alternative.flows import check_flows
from trading_pipelines.application.alternative.odds import check_ladders
from trading_pipelines.application.alternative.sentiment import differing_instants
from trading_pipelines.application.analysis.scoring import check_scores
from trading_pipelines.application.audit.leakcheck import REBUILD, check_features, explain_leaks
from trading_pipelines.application.audit.reach import SCORES
from trading_pipelines.application.comparison import Comparison
from trading_pipelines.application.features.building import current_feature_set, to_aware, to_naive
from trading_pipelines.application.features.strategy_inputs import from_microseconds, load_input
from trading_pipelines.application.models import training as training_steps
from trading_pipelines.application.models.prediction import load_classifier
from trading_pipelines.application.models.tasks import final_spec
from trading_pipelines.application.signals.candidates import Universe, load_candidates
from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import FeatureMatrix
from trading_pipelines.domain.labeling.triple_barrier import RowLabels
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling import training
from trading_pipelines.domain.modelling.metrics import measure
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.simulation.market import EXCHANGE as SIMULATED_EXCHANGE
from trading_pipelines.domain.validation.strategy_check import check_strategy
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import candles, instruments, revisions, sessions
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories import scores as score_store

TOLERANCE = 1e-9
_STRATEGY_DAYS = 14


@dataclass(frozen=True)
class Finding:
    """One column of one row that is not what was known.

    Attributes
    ----------
    first : datetime
        Earliest sampled instant at which it differs.
    cause : str
        What most probably brought it about.
    superseded_by : str or None
        What has changed in its inputs since it was said; a log keeps what was said, so this is no fault of it.
    """

    symbol: str
    column: str
    row: str
    first: datetime
    stored: Any
    recomputed: Any
    cause: str
    superseded_by: str | None = None


@dataclass(frozen=True)
class AssetCheck:
    """What was looked at of one asset, and what was found.

    Attributes
    ----------
    superseded : tuple of Finding
        What no longer follows from its inputs because these were corrected, or arrived, after it was said.
    """

    asset: str
    checked: int
    findings: tuple[Finding, ...]
    superseded: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Scope:
    connection: psycopg.Connection[Any]
    settings: Settings
    symbols: Sequence[str]
    timeframe: Timeframe
    samples: int
    seed: int

    @property
    def exchange(self) -> str:
        return self.settings.exchange

    @property
    def is_simulated(self) -> bool:
        return self.exchange == SIMULATED_EXCHANGE

    @cached_property
    def stored(self) -> dict[str, int]:
        found = instruments.by_symbol(self.connection, self.exchange)
        return {s: found[s].instrument_id for s in self.symbols if s in found}

    @cached_property
    def symbol_of(self) -> dict[int, str]:
        return {instrument_id: symbol for symbol, instrument_id in self.stored.items()}

    def rows(self, query: Any, **parameters: Any) -> list[dict[str, Any]]:
        """Rows of a query, drawn by the seed; the caller's text orders them by `md5(key || seed)`."""
        values = {"ids": list(self.stored.values()), "frame": self.timeframe.value, "n": self.samples}
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values | {"seed": str(self.seed)} | parameters).fetchall()


def check_assets(
    connection: psycopg.Connection[Any],
    settings: Settings,
    symbols: Sequence[str],
    timeframe: str,
    samples: int,
    seed: int,
    assets: Sequence[str] = (),
) -> list[AssetCheck]:
    """Check the named assets, or all, with `samples` drawn rows of each (features: per symbol).

    Raises
    ------
    UserError
        An asset that is not known.
    """
    unknown = set(assets) - set(CHECKS)
    if unknown:
        raise UserError(f"no leak check is named {sorted(unknown)[0]}: there are {', '.join(CHECKS)}")
    scope = _Scope(connection, settings, symbols, Timeframe(timeframe), samples, seed)
    found: list[AssetCheck] = []
    for name in assets or tuple(CHECKS):
        checked, findings = CHECKS[name](scope)
        wrong, superseded = ([f for f in findings if (f.superseded_by is None) is now] for now in (True, False))
        found.append(AssetCheck(name, checked, _earliest(wrong), _earliest(superseded)))
    return found


_Result = tuple[int, list[Finding]]


def _earliest(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The first finding of each symbol and column."""
    first: dict[tuple[str, str], Finding] = {}
    for finding in sorted(findings, key=lambda f: f.first):
        first.setdefault((finding.symbol, finding.column), finding)
    return tuple(first.values())


def _kept(
    scope: _Scope, finding: Finding, instrument_id: int, start: datetime, end: datetime, said_at: datetime
) -> Finding:
    """The finding about something said at `said_at` from [start, end), with what has changed of that since."""
    changed = revisions.superseded_by(scope.connection, scope.timeframe, instrument_id, start, end, said_at)
    return replace(finding, superseded_by=changed)


def _candles(scope: _Scope) -> _Result:
    """Longer candles, from the candles that they are made of."""
    checked, findings = 0, list[Finding]()
    base = scope.timeframe
    draw = np.random.default_rng(scope.seed)
    for symbol, instrument_id in scope.stored.items():
        for longer in (t for t in (Timeframe.H1, Timeframe.H4, Timeframe.D1) if t.minutes > base.minutes):
            far = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
            frame = candles.read_candles(scope.connection, instrument_id, longer, *far)
            wanted = draw.choice(len(frame), min(len(frame), max(scope.samples // 3, 1)), replace=False)
            for i in sorted(wanted.tolist()):
                row = frame.iloc[i]
                opened = row["ts"].to_pydatetime()
                parts = candles.read_candles(scope.connection, instrument_id, base, opened, opened + longer.delta)
                if len(parts) == 0:
                    continue
                checked += 1
                again = {
                    "open": parts["open"].iloc[0],
                    "high": parts["high"].max(),
                    "low": parts["low"].min(),
                    "close": parts["close"].iloc[-1],
                    "volume": parts["volume"].sum(),
                }
                findings += [
                    Finding(
                        symbol,
                        f"{longer}.{name}",
                        opened.isoformat(),
                        opened + longer.delta,
                        float(row[name]),
                        float(value),
                        "built from candles outside its own span, or before they were corrected",
                    )
                    for name, value in again.items()
                    if not _same(row[name], value)
                ]
    return checked, findings


def _features(scope: _Scope) -> _Result:
    report = check_features(
        scope.connection, scope.exchange, list(scope.stored), str(scope.timeframe), scope.samples, scope.seed
    )
    findings = [
        Finding(
            symbol,
            leak.column,
            f"{leak.instants} of the sampled rows",
            to_aware(leak.first),
            leak.stored,
            leak.recomputed,
            cause,
        )
        for symbol, leaks in report.leaks.items()
        for leak, cause in zip(
            leaks,
            explain_leaks(scope.connection, scope.exchange, symbol, str(scope.timeframe), leaks),
            strict=True,
        )
    ]
    findings += [
        Finding(
            symbol,
            f"{leak.column}.history",
            f"{leak.instants} of the sampled rows",
            to_aware(leak.first),
            leak.stored,
            leak.recomputed,
            "depends on older history than it says: the value with twice of it is another one",
        )
        for symbol, leaks in report.unsteady.items()
        for leak in leaks
    ]
    return report.checked, findings


def _labels(scope: _Scope) -> _Result:
    """Labels of folds and outcomes of predictions."""
    judged, wrong = _fold_labels(scope)
    told, false = _outcomes(scope)
    return judged + told, [*wrong, *false]


def _fold_labels(scope: _Scope) -> _Result:
    """Folds, judged again by labels from the candles of the training's time; and some of those labels alone."""
    rows = scope.rows(
        """
        select t.instrument_id, f.fold, f.test_from, f.test_until, f.probabilities, f.metrics, f.created_at, t.as_of,
               t.spec
        from model_folds f join trainings t using (training_key)
        where t.instrument_id = any(%(ids)s) and t.timeframe = %(frame)s and f.probabilities is not null
        order by md5(f.training_key || f.fold || %(seed)s) limit %(few)s
        """,
        few=max(scope.samples // 4, 1),
    )
    draw = np.random.default_rng(scope.seed)
    checked, findings = 0, list[Finding]()
    for row in rows:
        spec = _spec(row["spec"])
        if spec is None:
            continue
        instrument_id = row["instrument_id"]
        first, end = row["test_from"] - scope.timeframe.delta, min(row["test_until"], row["as_of"])
        matrix = _feature_rows(scope, instrument_id, first, end)
        if len(matrix.ts) == 0:  # trained with features of another version
            continue
        labels = training_steps.label_rows(scope.connection, instrument_id, scope.timeframe, matrix, row["as_of"], spec)
        known = np.flatnonzero(labels.value >= 0)
        checked += 1
        horizon = row["test_until"] + timedelta(minutes=spec.label_horizon_minutes)
        findings += [
            _kept(scope, finding, instrument_id, first, horizon, row["created_at"])
            for finding in _judged_again(scope, row, labels.value[known], spec)
        ]
        for i in draw.choice(known, min(4, len(known)), replace=False).tolist():
            checked += 1
            findings += _label_alone(scope, row, matrix.row(i), labels.take(i), spec)
    return checked, findings


def _judged_again(scope: _Scope, row: dict[str, Any], labels: Any, spec: TrainingSpec) -> Iterator[Finding]:
    """A fold's figures follow from its predictions and the labels."""
    symbol = scope.symbol_of[row["instrument_id"]]
    probabilities = np.frombuffer(row["probabilities"])
    cause = "judged by other labels than those of the candles known at the training"
    fold = f"fold {row['fold']}"
    if len(probabilities) != len(labels):
        yield Finding(symbol, "samples", fold, row["test_from"], len(probabilities), len(labels), cause)
        return
    again = measure(probabilities, labels, 0.5, spec.confidence_threshold)
    for name in ("log_loss", "brier", "auc"):
        stored, recomputed = row["metrics"][name], getattr(again, name)
        if not _same(np.nan if stored is None else stored, np.nan if recomputed is None else recomputed):
            yield Finding(symbol, name, fold, row["test_from"], stored, recomputed, cause)


def _label_alone(
    scope: _Scope, row: dict[str, Any], bar: FeatureMatrix, label: RowLabels, spec: TrainingSpec
) -> Iterator[Finding]:
    """A label follows from the candles up to its end, and before its end it is not known."""
    symbol, ends = scope.symbol_of[row["instrument_id"]], to_aware(label.known_at[0])
    for at, expected in ((ends, int(label.value[0])), (ends - timedelta(microseconds=1), -1)):
        again = training_steps.label_rows(scope.connection, row["instrument_id"], scope.timeframe, bar, at, spec)
        value = int(again.value[0]) if len(again.value) else -1
        if value != expected:
            cause = "the label ends later than it says" if expected >= 0 else "the label is known before its end"
            yield Finding(symbol, "label", to_aware(bar.ts[0]).isoformat(), at, expected, value, cause)


def _outcomes(scope: _Scope) -> _Result:
    """Outcomes of predictions: what the barriers said, at the moment from which it is said to be known."""
    rows = scope.rows(
        """
        select p.instrument_id, p.ts, p.outcome, p.outcome_at, p.created_at, m.spec from predictions p
        join model_versions m using (model_id)
        where p.instrument_id = any(%(ids)s) and p.timeframe = %(frame)s and p.outcome is not null
        order by md5(p.instrument_id::text || p.ts || %(seed)s) limit %(n)s
        """
    )
    checked, findings = 0, list[Finding]()
    for row in rows:
        spec = _spec(row["spec"])
        if spec is None:
            continue
        checked += 1
        matrix = _feature_rows(scope, row["instrument_id"], row["ts"], row["ts"] + scope.timeframe.delta)
        again = training_steps.label_rows(
            scope.connection, row["instrument_id"], scope.timeframe, matrix, row["outcome_at"], spec
        )
        value = int(again.value[0]) if len(again.value) else -1
        if value != row["outcome"] or to_aware(again.known_at[0]) != row["outcome_at"]:
            finding = Finding(
                scope.symbol_of[row["instrument_id"]],
                "outcome",
                row["ts"].isoformat(),
                row["outcome_at"],
                row["outcome"],
                value,
                "the label ends later than it says, or reads another stretch of the price than its own",
            )
            span = row["ts"], row["outcome_at"]
            findings.append(_kept(scope, finding, row["instrument_id"], *span, row["created_at"]))
    return checked, findings


def _splits(scope: _Scope) -> _Result:
    """Folds: no label that is learnt from ends in the time that is tested, embargo included."""
    rows = scope.rows(
        """
        select t.instrument_id, f.fold, f.train_until, f.test_from, t.spec
        from model_folds f join trainings t using (training_key)
        where t.instrument_id = any(%(ids)s) and t.timeframe = %(frame)s
        order by md5(f.training_key || f.fold || %(seed)s) limit %(n)s
        """
    )
    findings = list[Finding]()
    checked = 0
    for row in rows:
        spec = _spec(row["spec"])
        if spec is None:
            continue
        checked += 1
        matrix = _feature_rows(
            scope, row["instrument_id"], row["train_until"] - scope.timeframe.delta, row["train_until"]
        )
        labels = training_steps.label_rows(
            scope.connection, row["instrument_id"], scope.timeframe, matrix, row["test_from"] + timedelta(days=2), spec
        )
        ends = to_aware(labels.known_at[0]) if len(labels.value) and labels.value[0] >= 0 else row["train_until"]
        latest = row["test_from"] - timedelta(minutes=spec.embargo_minutes)
        if ends > latest:
            findings.append(
                Finding(
                    scope.symbol_of[row["instrument_id"]],
                    "train_until",
                    f"fold {row['fold']}",
                    row["test_from"],
                    ends.isoformat(),
                    latest.isoformat(),
                    "no purge: a training label is known only after the test has begun",
                )
            )
    return checked, findings


def _models(scope: _Scope) -> _Result:
    """Versions: trained again from what was known, with calibration and reference, they are the same bytes."""
    rows = scope.rows(
        """
        select m.model_id, m.instrument_id, m.train_from, m.as_of, m.spec, m.training_key, m.artefact_sha256,
               m.created_at
        from model_versions m
        where m.instrument_id = any(%(ids)s) and m.timeframe = %(frame)s and m.feature_set_id = %(set)s
        order by m.as_of desc limit %(few)s
        """,
        set=current_feature_set(scope.connection),
        few=max(len(scope.stored), scope.samples // 8),
    )
    findings = list[Finding]()
    checked = 0
    for row in rows:
        spec = _spec(row["spec"])
        if spec is None:
            continue
        checked += 1
        symbol = scope.symbol_of[row["instrument_id"]]
        data = training_steps.recompute_training_data(
            scope.connection, scope.exchange, symbol, str(scope.timeframe), row["as_of"], spec
        )
        tuned = final_spec(scope.connection, row["training_key"], spec)
        again = training.fit_final(data, to_naive(row["as_of"]), tuned)
        sha256 = "" if again is None else hashlib.sha256(again.to_bytes()).hexdigest()
        if sha256 != row["artefact_sha256"]:
            finding = Finding(
                symbol,
                "artefact",
                row["model_id"],
                row["as_of"],
                row["artefact_sha256"][:12],
                sha256[:12],
                "scaled, selected, fitted or calibrated on rows that were not known at its as-of time, or the code has "
                "changed since",
            )
            span = row["train_from"], row["as_of"]
            findings.append(_kept(scope, finding, row["instrument_id"], *span, row["created_at"]))
    return checked, findings


def _predictions(scope: _Scope) -> _Result:
    """Predictions: by the version of their time, from the feature row of their bar."""
    rows = scope.rows(
        """
        select p.instrument_id, p.ts, p.model_id, p.available_at, p.probability, p.created_at, m.as_of,
               version_in_production(p.instrument_id, p.timeframe, p.available_at) as valid
        from predictions p join model_versions m using (model_id)
        where p.instrument_id = any(%(ids)s) and p.timeframe = %(frame)s and m.feature_set_id = %(set)s
        order by md5(p.instrument_id::text || p.ts || %(seed)s) limit %(n)s
        """,
        set=current_feature_set(scope.connection),
    )
    findings = list[Finding]()
    for row in rows:
        symbol, at = scope.symbol_of[row["instrument_id"]], row["available_at"]
        opened = row["ts"].isoformat()
        if row["as_of"] > at:
            cause = "the version has learnt from what came after the bar"
            findings.append(Finding(symbol, "model_id", opened, at, row["model_id"], row["valid"], cause))
        if at < row["ts"] + scope.timeframe.delta:
            cause = "said to be known before the bar had closed"
            findings.append(
                Finding(symbol, "available_at", opened, at, at.isoformat(), row["ts"] + scope.timeframe.delta, cause)
            )
        matrix = _feature_rows(scope, row["instrument_id"], row["ts"], row["ts"] + scope.timeframe.delta)
        classifier = load_classifier(scope.connection, row["model_id"])
        columns = [registry.NAMES.index(name) for name in classifier.features]
        again = float(classifier.probability(matrix.values[:, columns])[0]) if len(matrix.ts) else float("nan")
        if not _same(row["probability"], again):
            cause = "predicted from another row than that of its bar, or with another calibration"
            finding = Finding(symbol, "probability", opened, at, row["probability"], again, cause)
            span = row["ts"], row["ts"] + scope.timeframe.delta
            findings.append(_kept(scope, finding, row["instrument_id"], *span, row["created_at"]))
    return len(rows), findings


def _decisions(scope: _Scope) -> _Result:
    """Decisions: the strategies, asked again about that bar alone, propose the same with the same numbers."""
    checked, findings = 0, list[Finding]()
    for session in _sessions(scope):
        universe = Universe.of(scope.connection, session)
        rows = scope.rows(
            """
            select d.instrument_id, d.ts, d.strategy, d.decided_at, d.setup,
                   greatest(d.decided_at, s.created_at) as said_at
            from decisions d join sessions s using (session_id)
            where d.session_id = %(session)s and d.instrument_id = any(%(ids)s) and d.timeframe = %(frame)s
              and d.setup is not null
            order by md5(d.instrument_id::text || d.ts || d.strategy || %(seed)s) limit %(n)s
            """,
            session=session.session_id,
        )
        for row in rows:
            if row["strategy"] not in universe.strategies:
                continue
            checked += 1
            findings += _decision(scope, universe, row)
    return checked, findings


def _decision(scope: _Scope, universe: Universe, row: dict[str, Any]) -> Iterator[Finding]:
    symbol, opened, at = scope.symbol_of[row["instrument_id"]], row["ts"].isoformat(), row["decided_at"]
    closes = row["ts"] + scope.timeframe.delta
    if at < closes:
        cause = "decided before its bar had closed"
        yield Finding(symbol, f"{row['strategy']}.decided_at", opened, at, at.isoformat(), closes.isoformat(), cause)
    alone = Universe(
        {row["instrument_id"]: universe.instruments[row["instrument_id"]]},
        universe.timeframe,
        universe.feature_set_id,
        {row["strategy"]: universe.strategies[row["strategy"]]},
    )
    (part,) = load_candidates(scope.connection, alone, row["ts"], closes)
    again = part.proposals
    setup = row["setup"]
    numbers = {
        "side": ({"LONG": 1, "SHORT": -1}.get(setup["side"], 0), int(again.side[0]) if len(again) else 0),
        **{
            name: (setup[name], float(getattr(again, name)[0]) if len(again) else float("nan"))
            for name in ("reference_price", "atr", "probability")
        },
    }
    for name, (stored, recomputed) in numbers.items():
        if not _same(stored, recomputed):
            cause = "decided with what was not known at the bar's close"
            finding = Finding(symbol, f"{row['strategy']}.{name}", opened, at, stored, recomputed, cause)
            yield _kept(scope, finding, row["instrument_id"], row["ts"], closes, row["said_at"])


def _scores(scope: _Scope) -> _Result:
    """Composite scores and their inputs, from candles and observations that were known at the close."""
    found = score_store.newest_spec(scope.connection)
    if found is None:
        return 0, []
    checked, leaks = check_scores(
        scope.connection, scope.exchange, list(scope.stored), str(scope.timeframe), scope.samples, scope.seed, found
    )
    return checked, [
        Finding(
            symbol,
            leak.column,
            "the earliest sampled row that differs",
            to_aware(leak.first),
            leak.stored,
            leak.recomputed,
            _why_score(scope, scope.stored[symbol], leak.first),
        )
        for symbol, several in leaks.items()
        for leak in several
    ]


def _why_score(scope: _Scope, instrument_id: int, closed_at: np.datetime64) -> str:
    closes = to_aware(closed_at)
    changed = revisions.why_stale(scope.connection, SCORES, instrument_id, closes - scope.timeframe.delta, closes)
    if not changed:
        return "made with what became known later"
    return f"its inputs changed after it was made ({changed[0]}): `{REBUILD}` computes it again"


def _sentiment(scope: _Scope) -> _Result:
    """Sentiment of some instants, from the scores of texts that were known then."""
    drawn = scope.rows(
        "select ts from (select distinct ts from sentiment where (source = %(simulated)s) = %(is_simulated)s) known "
        "order by md5(ts::text || %(seed)s) limit %(n)s",
        simulated=SIMULATED,
        is_simulated=scope.is_simulated,
    )
    instants = sorted(row["ts"] for row in drawn)
    spec = scope.settings.sentiment.aggregation
    return _compared(differing_instants(scope.connection, instants, simulated=scope.is_simulated, spec=spec))


def _flows(scope: _Scope) -> _Result:
    """Net flows, inflow of stablecoins and whale scores of some days, from transactions and flows known by then."""
    return _days(scope, check_flows, _days_of(scope, "exchange_netflow_usd"))


def _odds(scope: _Scope) -> _Result:
    """Distributions of some days, from the odds that were known by then."""
    return _days(scope, check_ladders, _days_of(scope, "prediction_bias"))


def _days_of(scope: _Scope, series: str) -> list[datetime]:
    """Some of the days of a series, ascending; a day has many rows."""
    drawn = scope.rows(
        "select day from (select distinct date_trunc('day', ts, 'UTC') as day from observations "
        "where series = %(series)s and (source = %(simulated)s) = %(is_simulated)s) known "
        "order by md5(day::text || %(seed)s) limit greatest(%(n)s / 8, 1)",
        series=series,
        simulated=SIMULATED,
        is_simulated=scope.is_simulated,
    )
    return sorted(row["day"] for row in drawn)


def _days(
    scope: _Scope,
    check: Callable[[psycopg.Connection[Any], Settings, datetime, datetime], Comparison],
    days: Sequence[datetime],
) -> _Result:
    found = [check(scope.connection, scope.settings, day, day + timedelta(days=1)) for day in days]
    return _compared(Comparison(sum(f.compared for f in found), tuple(d for f in found for d in f.differing)))


def _compared(found: Comparison) -> _Result:
    cause = "made with what became known later, or its inputs were corrected or loaded since"
    return found.compared, [
        Finding(d.subject, d.column, d.at.isoformat(), d.at, d.stored, d.recomputed, cause) for d in found.differing
    ]


def _strategies(scope: _Scope) -> _Result:
    """Strategies of the sessions: the same answers when everything later is taken away."""
    checked, findings = 0, list[Finding]()
    strategies = {
        name: strategy
        for session in _sessions(scope)
        for name, strategy in Universe.of(scope.connection, session).strategies.items()
    }
    for symbol, instrument_id in scope.stored.items():
        newest = candles.latest_candle_ts(scope.connection, instrument_id, scope.timeframe)
        if newest is None:
            continue
        end = newest + scope.timeframe.delta
        for name, strategy in strategies.items():
            data = load_input(
                scope.connection,
                instrument_id,
                symbol,
                scope.timeframe,
                strategy.needs,
                end - timedelta(days=_STRATEGY_DAYS),
                end,
            )
            report = check_strategy(strategy, [data], max(scope.samples // 2, 4), scope.seed)
            checked += report.lookahead_samples + report.warm_up_samples
            findings += [
                Finding(
                    symbol,
                    f"{name}.{found.what}",
                    np.datetime_as_string(found.ts, unit="m"),
                    from_microseconds(int(found.ts.astype("datetime64[us]").astype(np.int64))),
                    found.full,
                    found.alone,
                    str(found),
                )
                for found in report.findings
            ]
    return checked, findings


CHECKS: dict[str, Callable[[_Scope], _Result]] = {
    "candles": _candles,
    "sentiment": _sentiment,
    "flows": _flows,
    "odds": _odds,
    "features": _features,
    "labels": _labels,
    "splits": _splits,
    "models": _models,
    "predictions": _predictions,
    "scores": _scores,
    "decisions": _decisions,
    "strategies": _strategies,
}
"""What can be checked, in the order of the lineage."""


def _sessions(scope: _Scope) -> list[TradingSession]:
    """The stored sessions of the exchange and timeframe."""
    rows = scope.connection.execute(
        "select name from sessions where exchange = %s and timeframe = %s order by name",
        (scope.exchange, str(scope.timeframe)),
    ).fetchall()
    found = [sessions.find(scope.connection, name) for (name,) in rows]
    return [session for session in found if session is not None]


def _feature_rows(scope: _Scope, instrument_id: int, start: datetime, end: datetime) -> FeatureMatrix:
    return feature_store.read_features(
        scope.connection,
        instrument_id,
        current_feature_set(scope.connection),
        str(scope.timeframe),
        len(registry.NAMES),
        start,
        end,
    )


def _spec(content: dict[str, Any]) -> TrainingSpec | None:
    """The recipe, None where that was another version of the program."""
    try:
        return TrainingSpec.model_validate(content)
    except ValidationError:
        return None


def _same(a: Any, b: Any) -> bool:
    return bool(np.isclose(float(a), float(b), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
