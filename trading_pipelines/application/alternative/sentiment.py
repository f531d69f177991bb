"""From stored texts to stored sentiment: read, score, put together, announce.

Every step takes up what is not done yet and commits in portions: an interrupted run goes on where it stopped, a
repeated one changes nothing. Belongs here: that path. Does not belong here: collecting texts
(`application.alternative.collection`).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import structlog

from trading_pipelines.adapters.scorers.base import Scorer
from trading_pipelines.adapters.scorers.factory import open_other_scorer, open_scorer
from trading_pipelines.application.comparison import Comparison, Difference
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.domain.sentiment import duplicates
from trading_pipelines.domain.sentiment.aggregate import ALL, AggregationSpec, Scored, Sentiment, aggregate, thresholds
from trading_pipelines.domain.sentiment.alerts import SentimentAlertSpec, Turn, find_turn
from trading_pipelines.domain.sentiment.entities import Linker, Mention
from trading_pipelines.domain.sentiment.language import ENGLISH, UNKNOWN, detect_language
from trading_pipelines.domain.sentiment.normalise import normalise
from trading_pipelines.domain.sentiment.score import Score, Unscored
from trading_pipelines.settings import SentimentSettings
from trading_pipelines.store.repositories import events, observations, source_states, text_scores
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.text_scores import Reading, StoredText

EVENT = "sentiment_turn"
_PORTION = 500
"""Texts between two commits."""
_REPEATED_WITHIN = timedelta(days=3)
"""How far back a text counts as a repetition of another; later it is news again."""
_NEWS = timedelta(hours=1)
"""A turn that is older when it is found is history and no alert."""
_AND = " + "
"""Between the names of several scorers in what is stored."""
_SAME = 1e-9
"""Difference up to which two computed values are one."""
_SIMULATED_SOURCES = ("simulated_news", "simulated_posts")
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Readers:
    """Who scores which texts; without `other`, texts in further languages have no score."""

    main: Scorer
    other: Scorer | None = None
    languages: tuple[str, ...] = (ENGLISH, UNKNOWN)
    """What `main` reads; texts whose language is unknown are mostly names and figures."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names under which the scores are stored."""
        return (self.main.name,) if self.other is None else (self.main.name, self.other.name)


def open_readers(settings: SentimentSettings) -> Readers:
    """The scorers that the settings choose.

    Raises
    ------
    UserError
        A chosen one lacks something; the message says what to do.
    """
    main = open_scorer(settings)
    return Readers(main, open_other_scorer(settings, main))


@dataclass(frozen=True)
class SentimentReport:
    """What one pass has done."""

    read: int
    repeated: int
    scored: int
    refused: int
    stored: int
    turns: int


@dataclass(frozen=True)
class Computed:
    """Sentiment by coin and source.

    Attributes
    ----------
    live_since : datetime or None
        From when on texts count that were fetched live. What is made of them was not known before it was made; recorded
        and simulated history is dated as if it had been made at once.
    """

    values: dict[tuple[str, str], list[Sentiment]]
    live_since: datetime | None

    def known_at(self, ts: datetime, now: datetime) -> datetime:
        """From when on the sentiment of `ts` counts as known, computed `now`."""
        return ts if self.live_since is None or ts < self.live_since else max(now, ts)


def update_sentiment(
    connection: psycopg.Connection[Any],
    readers: Readers,
    now: datetime,
    *,
    simulated: bool,
    coins: Sequence[str] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    spec: AggregationSpec,
    alerts: SentimentAlertSpec,
) -> SentimentReport:
    """Take up all new texts and bring the sentiment of one market up to date.

    Parameters
    ----------
    coins : sequence of str
        Base currencies to recognise beside the dictionary, for example all that are traded.
    start, end : datetime, optional
        Instants in (start, end] are computed anew; without them, those since the newest stored one.
    """
    read, repeated, unfit = read_texts(connection, Linker(coins), now)
    horizon = timedelta(hours=spec.horizon_hours)
    until = min(end, now) if end is not None else _complete_until(connection, now, simulated)
    source = SIMULATED if simulated else ALL
    since = start if start is not None else text_scores.newest(connection, source)
    scoring_since = datetime.fromtimestamp(0, tz=now.tzinfo) if since is None else since - horizon
    scored, refused = score_texts(connection, readers, scoring_since, max(until, now), now, simulated=simulated)
    if since is None:
        known = text_scores.first_known(connection, readers.names, simulated=simulated)
        since = until if known is None else known - timedelta(minutes=spec.grid_minutes)
    stored = store_sentiment(connection, readers, since, until, now, simulated=simulated, spec=spec)
    turns = announce_turns(connection, source, now, alerts)
    connection.commit()
    return SentimentReport(read, repeated, scored, unfit + refused, stored, turns)


def read_texts(connection: psycopg.Connection[Any], linker: Linker, now: datetime) -> tuple[int, int, int]:
    """Read all texts that were not read yet: language, repetition, coins; commits in portions.

    Returns
    -------
    tuple of int
        Texts read, repetitions among them, texts put aside.
    """
    read = repeated = refused = 0
    while portion := text_scores.unread(connection, _PORTION):
        for simulated in (True, False):
            texts = [text for text in portion if (text.source == SIMULATED) == simulated]
            if texts:
                again, aside = _read_portion(connection, linker, texts, now)
                repeated, refused = repeated + again, refused + aside
        read += len(portion)
        connection.commit()
    return read, repeated, refused


def score_texts(
    connection: psycopg.Connection[Any],
    readers: Readers,
    start: datetime,
    end: datetime,
    now: datetime,
    *,
    simulated: bool,
) -> tuple[int, int]:
    """Score what was read and has no score yet; commits in portions.

    The score of a text that was fetched live is known from `now` on. Recorded and simulated texts are scored afterwards
    as if it had been done at once; with a model that knows the future of these texts that flatters every backtest.

    Returns
    -------
    tuple of int
        Texts scored, texts put aside.
    """
    done = refused = 0
    for scorer, spoken in ((readers.main, True), (readers.other, False)):
        while scorer is not None and (
            texts := text_scores.unscored(
                connection,
                scorer.name,
                readers.languages,
                start,
                end,
                _PORTION,
                spoken=spoken,
                simulated=simulated,
            )
        ):
            answers = scorer.score([_whole(text) for text in texts])
            good = [
                (t.text_id, a, _known_at(t, now)) for t, a in zip(texts, answers, strict=True) if isinstance(a, Score)
            ]
            text_scores.save_scores(connection, scorer.name, good)
            unscored = [(t, a) for t, a in zip(texts, answers, strict=True) if isinstance(a, Unscored)]
            for text, answer in unscored:
                if answer.final:
                    _put_aside(connection, text, f"{scorer.name}: {answer.reason}", now)
            connection.commit()
            done, refused = done + len(good), refused + sum(answer.final for _, answer in unscored)
            if not all(answer.final for _, answer in unscored):
                break  # the scorer has had enough for this time
    return done, refused


def compute_sentiment(
    connection: psycopg.Connection[Any],
    scorers: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    simulated: bool,
    spec: AggregationSpec,
) -> Computed:
    """What scores known at each instant of (start, end] make; stores nothing.

    Single sources are looked at on the hour, all together at each instant of the grid.
    """
    horizon = timedelta(hours=spec.horizon_hours)
    found = text_scores.scored_mentions(connection, scorers, start - horizon, end, simulated=simulated)
    instants = spec.grid(start, end)
    hourly = [instant for instant in instants if instant.minute == 0 and instant.second == 0]
    total = SIMULATED if simulated else ALL
    result: dict[tuple[str, str], list[Sentiment]] = {}
    for coin, rows in found.groupby("coin", sort=True):
        result[str(coin), total] = aggregate(_scored(rows), instants, spec)
        if not simulated:
            for source, own in rows.groupby("source", sort=True):
                result[str(coin), str(source)] = aggregate(_scored(own), hourly, spec)
    live = found.loc[found["known_at"] > found["published_at"], "known_at"]
    live_since = None if simulated or live.empty else live.min().to_pydatetime()
    return Computed({key: values for key, values in result.items() if values}, live_since)


def store_sentiment(
    connection: psycopg.Connection[Any],
    readers: Readers,
    start: datetime,
    end: datetime,
    now: datetime,
    *,
    simulated: bool,
    spec: AggregationSpec,
) -> int:
    """Compute and store the instants of (start, end] day by day; commits after each day; returns the new rows."""
    stored, day = 0, start
    past = _Past(connection, spec, start)
    while day < end:
        until = min(end, day.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1))
        computed = compute_sentiment(connection, readers.names, day, until, simulated=simulated, spec=spec)
        rows = _rows(computed, past, now)
        new = text_scores.save_sentiment(connection, _AND.join(readers.names), rows, now)
        observations.add(
            connection,
            [
                Observation("sentiment", coin, SIMULATED if simulated else "texts", ts, at, score)
                for coin, source, ts, at, score in new
                if source in (SIMULATED, ALL)
            ],
        )
        connection.commit()
        stored, day = stored + len(new), until
    return stored


def differing_instants(
    connection: psycopg.Connection[Any], instants: Sequence[datetime], *, simulated: bool, spec: AggregationSpec
) -> Comparison:
    """Compute stored sentiment again from the scores that were known at its instant, and name what differs.

    Each row is made again by the scorers that made it; instants without a row are not looked at.
    """
    compared, differing = 0, list[Difference]()
    for instant in instants:
        before = instant - timedelta(minutes=spec.grid_minutes)
        for scorer, rows in text_scores.stored_at(connection, instant, simulated=simulated).items():
            again = compute_sentiment(
                connection, scorer.split(_AND), before, instant, simulated=simulated, spec=spec
            ).values
            for coin, source, score, mentions in rows:
                compared += 1
                value = next(iter(again.get((coin, source), ())), None)
                if value is None or abs(value.score - score) > _SAME or value.mentions != mentions:
                    known = None if value is None else value.score
                    differing.append(Difference(coin, source, instant, score, known))
    return Comparison(compared, tuple(differing))


def announce_turns(connection: psycopg.Connection[Any], source: str, now: datetime, spec: SentimentAlertSpec) -> int:
    """Write an event for each coin whose sentiment has just turned; one per coin, direction and window."""
    window = timedelta(hours=spec.hours)
    found = text_scores.history(connection, source, now - window - _NEWS, now + timedelta(seconds=1))
    turns = 0
    for coin, rows in found.groupby("coin", sort=True):
        turn = find_turn(_history(rows), spec)
        if turn is None or now - turn.ts > _NEWS:
            continue
        direction = "better" if turn.change > 0 else "worse"
        if not text_scores.alerted_since(connection, EVENT, str(coin), direction, now - window):
            _announce(connection, now, str(coin), source, direction, turn)
            turns += 1
    return turns


def _announce(
    connection: psycopg.Connection[Any], now: datetime, coin: str, source: str, direction: str, turn: Turn
) -> None:
    events.append(
        connection,
        now,
        EVENT,
        coin,
        f"sentiment of {coin} turned {direction}: {turn.before:+.2f} at {turn.since:%H:%M} to {turn.score:+.2f} "
        f"at {turn.ts:%H:%M} UTC, {turn.mentions} texts in 24 h",
        severity=Severity.WARNING,
        payload={
            "direction": direction,
            "change": turn.change,
            "since": turn.since.isoformat(),
            "ts": turn.ts.isoformat(),
            "source": source,
        },
    )


def _read_portion(
    connection: psycopg.Connection[Any], linker: Linker, texts: Sequence[StoredText], now: datetime
) -> tuple[int, int]:
    first, last, simulated = texts[0].available_at, texts[-1].available_at, texts[0].source == SIMULATED
    known = text_scores.originals(connection, first - _REPEATED_WITHIN, last, simulated=simulated)
    originals = [
        _Original(text_id, at, _joined(title, body), mark, frozenset(coins))
        for text_id, at, title, body, mark, coins in known
    ]
    repeated = refused = 0
    readings: list[Reading] = []
    for text in texts:
        whole = _whole(text)
        if not whole:
            _put_aside(connection, text, "nothing readable in it", now)
            readings.append(Reading(text.text_id, UNKNOWN, 0, None, ()))
            refused += 1
            continue
        mentions = _mentions(linker, whole)
        read = _Original(
            text.text_id, text.available_at, whole, duplicates.fingerprint(whole), frozenset(m.coin for m in mentions)
        )
        original = _original_of(read, originals)
        readings.append(Reading(text.text_id, detect_language(whole), read.mark, original, mentions))
        if original is None:
            originals.append(read)
        else:
            repeated += 1
    text_scores.save_readings(connection, readings)
    return repeated, refused


@dataclass(frozen=True)
class _Original:
    """A text that repeats no other, with what it is compared by."""

    text_id: int
    available_at: datetime
    whole: str
    mark: int
    coins: frozenset[str]


def _original_of(text: _Original, earlier: Sequence[_Original]) -> int | None:
    """The first text of the last days that says the same of the same coins."""
    since = text.available_at - _REPEATED_WITHIN
    # One that was stored later, though it had come earlier, is no original: the database holds the order of storing.
    within = [e for e in earlier if e.available_at >= since and e.coins == text.coins and e.text_id < text.text_id]
    marks = duplicates.as_array([e.mark for e in within])
    place = next(duplicates.find_repeated(text.whole, text.mark, [e.whole for e in within], marks), None)
    return None if place is None else within[place].text_id


def _mentions(linker: Linker, text: str) -> tuple[Mention, ...]:
    """The coins of a text, and the market as a whole where it speaks of coins at all."""
    found = linker.find(text)
    return (*found, Mention(MARKET, 1.0)) if found or linker.is_about_coins(text) else ()


def _whole(text: StoredText) -> str:
    return _joined(text.title, text.body)


def _joined(title: str, body: str) -> str:
    """Title and body as one text; a body that begins with its title says it once."""
    return normalise(body if body.startswith(title) else f"{title}. {body}" if body else title)


def _known_at(text: StoredText, now: datetime) -> datetime:
    return text.available_at if text.is_recorded else max(text.available_at, now)


def _complete_until(connection: psycopg.Connection[Any], now: datetime, simulated: bool) -> datetime:
    """Up to when every text is stored that was known: simulated texts are dated back, so only as far as was asked."""
    if not simulated:
        return now
    asked = [source_states.last_success(connection, source) for source in _SIMULATED_SOURCES]
    return min([now, *(at for at in asked if at is not None)])


def _put_aside(connection: psycopg.Connection[Any], text: StoredText, reason: str, now: datetime) -> None:
    payload = f"{text.external_id}\n{text.title}\n{text.body}"
    source_states.quarantine(connection, text.source, now, [(text.external_id, reason, payload)])


def _midnight_before(ts: datetime) -> datetime:
    """Beginning of the day that ends at or after `ts`: midnight itself belongs to the day before."""
    return (ts - timedelta(microseconds=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def _scored(rows: pd.DataFrame) -> Scored:
    return Scored(
        text_scores.as_times(rows["published_at"]),
        text_scores.as_times(rows["known_at"]),
        *(rows[name].to_numpy(dtype=np.float64) for name in ("score", "confidence", "share")),
    )


def _history(rows: pd.DataFrame) -> list[Sentiment]:
    return [
        Sentiment(ts.to_pydatetime(), float(score), int(mentions), float(weight))
        for ts, score, mentions, weight in zip(rows["ts"], rows["score"], rows["mentions"], rows["weight"], strict=True)
    ]


def _rows(computed: Computed, past: "_Past", now: datetime) -> dict[str, list[Any]]:
    """Columns of the rows to store, with the thresholds that the days before them give."""
    columns: dict[str, list[Any]] = defaultdict(list, coin=[])
    for (coin, source), series in computed.values.items():
        low, high = past.thresholds(coin, source, _midnight_before(series[0].ts))
        for value in series:
            columns["coin"].append(coin)
            columns["source"].append(source)
            columns["ts"].append(value.ts)
            columns["available_at"].append(computed.known_at(value.ts, now))
            columns["score"].append(value.score)
            columns["mentions"].append(value.mentions)
            columns["weight"].append(value.weight)
            columns["low"].append(low)
            columns["high"].append(high)
        past.extend(coin, source, series)
    return columns


class _Past:
    """Sentiment up to `start`, read once per source, and extended by what is computed from then on."""

    def __init__(self, connection: psycopg.Connection[Any], spec: AggregationSpec, start: datetime) -> None:
        self._start = start
        self._connection = connection
        self._spec = spec
        self._read = set[str]()
        self._series: dict[tuple[str, str], tuple[list[datetime], list[float]]] = {}

    def thresholds(self, coin: str, source: str, day: datetime) -> tuple[float, float]:
        """From the values before the day."""
        since = day - timedelta(days=self._spec.threshold_days)
        if source not in self._read:
            self._load(source)
        times, scores = self._series.get((coin, source), ([], []))
        known = scores[bisect_left(times, since) : bisect_left(times, day)]
        return thresholds(np.array(known, dtype=np.float64), self._spec)

    def extend(self, coin: str, source: str, series: Sequence[Sentiment]) -> None:
        """Remember later values."""
        times, scores = self._series.setdefault((coin, source), ([], []))
        times += [value.ts for value in series]
        scores += [value.score for value in series]

    def _load(self, source: str) -> None:
        since = self._start - timedelta(days=self._spec.threshold_days + 1)
        found = text_scores.history(self._connection, source, since, self._start + timedelta(microseconds=1))
        for coin, rows in found.groupby("coin"):
            self.extend(str(coin), source, _history(rows))
        self._read.add(source)
