"""A believable small database for tests and for looking at the pages.

Writes plain SQL, so that the pages are tested against the schema and not against the code that fills it. The
trades are rough (one entry, a stop, three targets on 5m candles); nothing here states how trading works.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

EXCHANGE = "simulated"
NAMESPACE = UUID("6f0c1d2e-0000-4000-8000-000000000000")
BASE = timedelta(minutes=5)
SIGNAL = timedelta(minutes=15)
MARKETS = {
    "BTC": (64_000.0, 0.10, 0.45),
    "ETH": (3_150.0, 0.01, 0.55),
    "SOL": (146.0, 0.01, 0.80),
    "XRP": (0.5231, 0.0001, 0.75),
    "DOGE": (0.1218, 0.00001, 0.90),
    "ADA": (0.4412, 0.0001, 0.75),
    "LINK": (13.87, 0.001, 0.80),
    "PEPE": (0.00000912, 0.00000001, 1.30),
}
"""Start price, price step and yearly volatility."""
FEE, SLIPPAGE, LEVERAGE = 0.00055, 0.0005, 5.0
CAPITAL = 10_000.0
REJECTIONS = {
    "net_profit": (0.62, 0.011, 0.02, 0.031),
    "confidence": (0.18, 0.509, 0.52, 0.58),
    "cooldown_minutes": (0.09, 105.0, 240.0, 610.0),
    "expected_value": (0.06, -0.0012, 0.0, 0.0043),
    "atr_ratio": (0.03, 3.4, 3.0, 1.2),
    "setup": (0.02, None, None, None),
}
"""Share, refused value, threshold and accepted value per gate."""


@dataclass(frozen=True)
class Seeded:
    """Ids that tests look for."""

    paper: UUID
    replay: UUID


@dataclass
class _Bars:
    """5m candles of one instrument."""

    instrument_id: int
    symbol: str
    step: float
    ts: list[datetime]
    ohlc: np.ndarray
    volume: np.ndarray


@dataclass
class _Book:
    """What one session did, collected before it is written."""

    session_id: UUID
    random: np.random.Generator
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    cash_events: list[tuple[datetime, float]] = field(default_factory=list)
    holdings: list[tuple[_Bars, datetime, datetime, float, float]] = field(default_factory=list)

    def add(self, table: str, *values: Any) -> None:
        self.rows.setdefault(table, []).append(values)


def seed(
    connection: psycopg.Connection[Any], now: datetime, *, days: int = 10, symbols: Sequence[str] = tuple(MARKETS)
) -> Seeded:
    """Fill an empty, migrated database with `days` of candles up to `now`, a paper session and a replay."""
    random = np.random.default_rng(7)
    end = _floor(now, BASE)
    markets = [_candles(connection, random, base, end, days) for base in symbols]
    _derive(connection, now)
    _tickers(connection, markets, now)
    feature_set = connection.execute(
        "insert into feature_sets (definition_hash, names) values ('seed', %s) returning feature_set_id",
        (["atr_14", "ema_gap", "rsi_14"],),
    ).fetchone()
    assert feature_set is not None
    for bars in markets:
        _model(connection, random, bars, feature_set[0])
    half = _floor(now - timedelta(days=days / 2), SIGNAL)
    seeded = Seeded(uuid5(NAMESPACE, "paper"), uuid5(NAMESPACE, "replay"))
    _session(connection, seeded.paper, "paper", "paper", markets, half, None)
    _session(connection, seeded.replay, "replay-spring", "replay", markets, _floor(markets[0].ts[2], SIGNAL), half)
    _operation(connection, markets, seeded, now)
    _backtests(connection, markets, now)
    connection.commit()
    return seeded


def _floor(moment: datetime, step: timedelta) -> datetime:
    return moment - (moment - datetime(1970, 1, 1, tzinfo=UTC)) % step


def _candles(
    connection: psycopg.Connection[Any], random: np.random.Generator, base: str, end: datetime, days: int
) -> _Bars:
    price, step, volatility = MARKETS[base]
    count = days * 288
    scale = volatility * np.sqrt(1 / (365 * 288))
    regime = np.repeat(random.normal(0, 0.05, count // 144 + 1), 144)[:count]
    returns = scale * (random.standard_t(5, count) + regime)
    close = price * np.exp(np.cumsum(returns))
    open_ = np.concatenate([[price], close[:-1]])
    spread = np.abs(random.normal(0, scale, (2, count)))
    high = np.maximum(open_, close) * (1 + spread[0])
    low = np.minimum(open_, close) * (1 - spread[1])
    ohlc = np.round(np.stack([open_, high, low, close], axis=1) / step) * step
    volume = np.round(2e6 / price * np.exp(random.normal(0, 0.6, count)), 3)
    row = connection.execute(
        """
        insert into instruments (exchange, symbol, base, quote, kind, price_step, quantity_step, min_notional,
                                 funding_interval_minutes)
        values (%s, %s, %s, 'USDT', 'perpetual', %s, 0.001, 5, 480) returning instrument_id
        """,
        (EXCHANGE, f"{base}USDT", base, step),
    ).fetchone()
    assert row is not None
    ts = [end - BASE * (count - n) for n in range(count)]
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "copy ohlcv_5m (instrument_id, ts, open, high, low, close, volume, available_at) from stdin"
        ) as copy,
    ):
        for n, at in enumerate(ts):
            copy.write_row((row[0], at, *map(float, ohlc[n]), float(volume[n]), at + BASE))
    return _Bars(row[0], f"{base}USDT", step, ts, ohlc, volume)


def _derive(connection: psycopg.Connection[Any], now: datetime) -> None:
    for timeframe, interval in (("15m", "15 min"), ("1h", "1 hour"), ("4h", "4 hours"), ("1d", "1 day")):
        connection.execute(
            f"""
            insert into ohlcv_{timeframe}
            select instrument_id, bucket, (array_agg(open order by ts))[1], max(high), min(low),
                   (array_agg(close order by ts desc))[1], sum(volume), bucket + %(interval)s::interval
            from (select *, date_bin(%(interval)s, ts, '1970-01-01 00:00+00') as bucket from ohlcv_5m) c
            where bucket + %(interval)s::interval <= %(now)s
            group by instrument_id, bucket
            """,
            {"interval": interval, "now": now},
        )


def _tickers(connection: psycopg.Connection[Any], markets: Iterable[_Bars], now: datetime) -> None:
    for bars in markets:
        last, day_ago = bars.ohlc[-1, 3], bars.ohlc[-289, 3]
        connection.execute(
            "insert into tickers values (%s, %s, %s, %s, %s, %s, %s)",
            (
                bars.instrument_id,
                now,
                last,
                last - bars.step,
                last + bars.step,
                last / day_ago - 1,
                float((bars.volume[-288:] * bars.ohlc[-288:, 3]).sum()),
            ),
        )


def _model(connection: psycopg.Connection[Any], random: np.random.Generator, bars: _Bars, feature_set: int) -> None:
    model_id = f"{bars.symbol}-15m-1"
    connection.execute(
        """
        insert into model_versions (model_id, instrument_id, timeframe, feature_set_id, spec, training_key, train_from,
                                    as_of, metrics, artefact, artefact_sha256, code_version)
        values (%s, %s, '15m', %s, '{}', %s, %s, %s, %s, '', '', 'seed')
        """,
        (
            model_id,
            bars.instrument_id,
            feature_set,
            model_id,
            bars.ts[0] - timedelta(days=365),
            bars.ts[0],
            Jsonb({"log_loss": 0.688, "accuracy": 0.531, "brier": 0.2471}),
        ),
    )
    connection.execute(
        "insert into model_promotions (model_id, instrument_id, timeframe, effective_from, reason)"
        " values (%s, %s, '15m', %s, 'first version')",
        (model_id, bars.instrument_id, bars.ts[0]),
    )
    for fold in range(4):
        test = bars.ts[0] - timedelta(days=40 - 10 * fold)
        connection.execute(
            "insert into model_folds values (%s, %s, %s, %s, %s, %s, %s)",
            (
                model_id,
                fold,
                test - timedelta(days=180),
                test - timedelta(days=1),
                test,
                test + timedelta(days=10),
                Jsonb({"log_loss": 0.69 - 0.001 * fold, "accuracy": 0.52 + 0.004 * fold, "brier": 0.2480}),
            ),
        )
    for number, at in enumerate(bars.ts[-600::3]):
        probability = float(np.clip(random.normal(0.5, 0.06), 0.3, 0.7))
        bar = _floor(at, SIGNAL)
        hit = int(random.random() < 0.5 + 0.8 * (probability - 0.5)) if number < 180 else None
        connection.execute(
            """
            insert into predictions (instrument_id, timeframe, ts, model_id, available_at, probability, confidence,
                                     side, outcome)
            values (%s, '15m', %s, %s, %s, %s, %s, %s, %s) on conflict do nothing
            """,
            (
                bars.instrument_id,
                bar,
                model_id,
                bar + SIGNAL,
                probability,
                max(probability, 1 - probability),
                "LONG" if probability >= 0.5 else "SHORT",
                hit,
            ),
        )


def _session(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    name: str,
    mode: str,
    markets: Sequence[_Bars],
    start: datetime,
    clock: datetime | None,
) -> None:
    connection.execute(
        """
        insert into sessions (session_id, name, mode, status, exchange, symbols, timeframe, strategies, start_capital,
                              config, clock, fingerprint)
        values (%s, %s, %s, %s, %s, %s, '15m', '{model_signals}', %s, %s, %s, %s)
        """,
        (
            session_id,
            name,
            mode,
            "STOPPED" if clock else "RUNNING",
            EXCHANGE,
            [bars.symbol for bars in markets],
            CAPITAL,
            Jsonb({"limits": {"max_open_positions": 5}}),
            clock,
            "3f6a" * 16 if clock else None,
        ),
    )
    end = clock or _floor(markets[0].ts[-1] + BASE, SIGNAL)
    book = _Book(session_id, np.random.default_rng(11 if clock else 23))
    for number, bars in enumerate(markets):
        _decide(book, bars, start, end, leave_open=clock is None and number in (0, 2, 4))
    if clock is None:
        _other_fates(book, markets, end)
    _write(connection, book)
    _equity(connection, book, start, end)


def _decide(book: _Book, bars: _Bars, start: datetime, end: datetime, leave_open: bool) -> None:
    busy_until = start
    reasons, shares = list(REJECTIONS), [share for share, *_ in REJECTIONS.values()]
    first = bars.ts.index(start)
    for index in range(first, bars.ts.index(end - BASE) + 1, 3):
        at = bars.ts[index]
        last_chance = leave_open and end - at <= timedelta(hours=2) and busy_until < end
        if at >= busy_until and (last_chance or book.random.random() < 0.03):
            busy_until = _signal(book, bars, index, end)
            continue
        reason = str(book.random.choice(reasons, p=np.array(shares) / sum(shares)))
        _decision(book, bars, at, "REJECTED", reason, "LONG" if book.random.random() < 0.5 else "SHORT", 0.51)


def _decision(book: _Book, bars: _Bars, at: datetime, outcome: str, reason: str, side: str, confidence: float) -> None:
    gates = []
    for name, (_, bad, threshold, good) in REJECTIONS.items():
        refused = name == reason
        typical = bad if refused else good
        value = None if typical is None else typical * float(book.random.uniform(0.95, 1.02))
        gates.append({"name": name, "value": value, "threshold": threshold, "passed": not refused})
    book.add(
        "decisions",
        book.session_id,
        bars.instrument_id,
        "15m",
        at,
        at + SIGNAL,
        outcome,
        reason,
        side,
        confidence,
        f"{bars.symbol}-15m-1",
        Jsonb(gates),
    )


def _signal(
    book: _Book, bars: _Bars, index: int, end: datetime, fate: str = "EXECUTED", reason: str | None = None
) -> datetime:
    """Add a signal on the 15m bar that starts at `index`; return when its position is closed."""
    at, sign = bars.ts[index], 1 if book.random.random() < 0.55 else -1
    reference = float(bars.ohlc[index + 2, 3])
    atr = float(np.ptp(bars.ohlc[max(index - 42, 0) : index + 3], axis=1).mean() * 2)
    confidence = float(book.random.uniform(0.52, 0.71))
    targets = [reference + sign * k * atr for k in (2.0, 3.5, 6.0)]
    stop = reference - sign * atr
    quantity = round(0.01 * CAPITAL / (atr + reference * 2 * (FEE + SLIPPAGE)), 4)
    signal_id = uuid5(book.session_id, f"{bars.symbol}{at.isoformat()}")
    distance = atr / reference
    gross = distance * (0.3 * 2 + 0.4 * 3.5 + 0.3 * 6)
    cost = 2 * (FEE + SLIPPAGE) + 0.00005
    side = "LONG" if sign > 0 else "SHORT"
    _decision(book, bars, at, "SIGNAL", "passed", side, confidence)
    closed_at, status = at + SIGNAL, fate
    if fate == "EXECUTED":
        closed_at, status = _position(book, bars, index + 3, end, signal_id, sign, quantity, reference, stop, targets)
    book.add(
        "signals",
        signal_id,
        book.session_id,
        bars.instrument_id,
        "15m",
        at,
        at + SIGNAL,
        at + SIGNAL + timedelta(hours=4),
        side,
        reference,
        stop,
        *targets,
        atr,
        LEVERAGE,
        quantity,
        quantity * reference / LEVERAGE,
        confidence if sign > 0 else 1 - confidence,
        confidence,
        gross / distance,
        gross,
        cost,
        gross - cost,
        confidence * (gross - cost) - (1 - confidence) * (distance + cost),
        f"{bars.symbol}-15m-1",
        Jsonb({"ema_gap": 0.21 * sign, "rsi_14": -0.08 * sign, "atr_14": 0.05, "volume_ratio": 0.11 * sign}),
        closed_at,
    )
    if status != "ACTIVE":
        book.add("signal_status", "EXECUTED" if fate == "EXECUTED" else status, reason, signal_id)
    if fate == "EXECUTED" and status != "EXECUTED":
        book.add("signal_status", status, None, signal_id)
    return closed_at


def _position(
    book: _Book,
    bars: _Bars,
    index: int,
    end: datetime,
    signal_id: UUID,
    sign: int,
    quantity: float,
    reference: float,
    stop: float,
    targets: list[float],
) -> tuple[datetime, str]:
    """Walk a position over the candles; return when it ended and the signal's status."""
    position_id = uuid5(signal_id, "position")
    opened_at = bars.ts[min(index, len(bars.ts) - 1)] + timedelta(seconds=3)
    opening = float(bars.ohlc[min(index, len(bars.ts) - 1), 0])
    entry = opening * (1 + sign * SLIPPAGE)
    legs = [round(quantity * 0.3, 4), round(quantity * 0.4, 4)]
    legs.append(round(quantity - sum(legs), 4))
    fills = [("ENTRY", opened_at, quantity, opening, entry, 0.0)]
    left, filled, closed_at, close_reason, in_force = quantity, 0, None, None, stop
    for n in range(index, len(bars.ts)):
        at = bars.ts[n]
        if at >= end:
            break
        _, high, low, close = bars.ohlc[n]
        adverse, favourable = (low, high) if sign > 0 else (high, low)
        if sign * (adverse - in_force) <= 0:
            fills.append(_exit("STOP", at, left, in_force, entry, sign))
            left, closed_at, close_reason = 0.0, at, "STOP" if filled == 0 else "TRAILING_STOP"
            break
        while filled < 3 and sign * (favourable - targets[filled]) >= 0:
            fills.append(_exit(f"TP{filled + 1}", at, legs[filled], targets[filled], entry, sign))
            left, filled = round(left - legs[filled], 4), filled + 1
        if filled == 3:
            closed_at, close_reason = at, "TP3"
            break
        if filled:
            trailed = close - sign * 1.5 * abs(reference - stop)
            in_force = max(in_force, entry, trailed) if sign > 0 else min(in_force, entry, trailed)
    mark = float(bars.ohlc[bars.ts.index(end - BASE), 3])
    fees = sum(FEE * q * price for _, _, q, _, price, _ in fills)
    realised = sum(pnl for *_, pnl in fills)
    slippage = sum(q * abs(price - before) for _, _, q, before, price, _ in fills)
    funding = 0.0001 * quantity * entry * sign * (2 if closed_at is None else 1)
    margin = quantity * entry / LEVERAGE
    book.add(
        "positions",
        position_id,
        book.session_id,
        bars.instrument_id,
        signal_id,
        "LONG" if sign > 0 else "SHORT",
        "OPEN",
        quantity,
        quantity if closed_at else left,
        quantity if closed_at else left,
        entry,
        margin,
        LEVERAGE,
        in_force,
        stop,
        entry * (1 - sign * (1 / LEVERAGE - 0.005)),
        mark,
        sign * left * (mark - entry),
        realised,
        fees,
        funding,
        slippage,
        close_reason,
        opened_at,
        closed_at,
        closed_at or end,
    )
    if closed_at:
        book.add("position_closed", position_id)
    else:
        book.add("funding_payments", book.session_id, position_id, opened_at, 0.0001, funding)
    _orders(book, bars, signal_id, position_id, sign, quantity, legs, stop, targets, fills, bool(closed_at))
    for _, at, q, _, price, pnl in fills:
        book.cash_events.append((at, pnl - FEE * q * price))
    book.cash_events.append((opened_at, -funding))
    book.holdings.append((bars, opened_at, closed_at or end + BASE, sign * (left or quantity), entry))
    if closed_at is None:
        return end, "EXECUTED"
    return closed_at, "HIT_SL" if close_reason == "STOP" else "HIT_TP" if filled else "CLOSED"


def _exit(kind: str, at: datetime, quantity: float, price: float, entry: float, sign: int) -> tuple[Any, ...]:
    paid = price * (1 - sign * SLIPPAGE)
    return kind, at + timedelta(seconds=90), quantity, price, paid, sign * quantity * (paid - entry)


def _orders(
    book: _Book,
    bars: _Bars,
    signal_id: UUID,
    position_id: UUID,
    sign: int,
    quantity: float,
    legs: list[float],
    stop: float,
    targets: list[float],
    fills: list[tuple[Any, ...]],
    closed: bool,
) -> None:
    by_leg = {fill[0]: fill for fill in fills}
    opened_at = fills[0][1]
    wanted = [("ENTRY", "E", quantity, None), ("STOP", "S", quantity, stop)]
    wanted += [(f"TP{n + 1}", f"T{n + 1}", legs[n], targets[n]) for n in range(3)]
    for leg, code, size, trigger in wanted:
        fill = by_leg.get(leg)
        order_id = f"{signal_id.hex[:24]}-{code}-0"
        size = fill[2] if fill else size
        buys = (sign > 0) == (leg == "ENTRY")
        kind = "MARKET" if leg == "ENTRY" else "STOP_MARKET" if leg == "STOP" else "TAKE_PROFIT_MARKET"
        book.add(
            "orders",
            order_id,
            book.session_id,
            signal_id,
            position_id,
            bars.instrument_id,
            leg,
            "BUY" if buys else "SELL",
            kind,
            leg != "ENTRY",
            size,
            trigger,
            fills[0][3] if leg == "ENTRY" else trigger,
            opened_at - timedelta(seconds=2),
            opened_at,
        )
        path = ["SENT", "ACCEPTED"] + (["FILLED"] if fill else ["CANCELLED"] if closed else [])
        for status in path:
            book.add("order_status", status, None, order_id)
        if fill:
            _, at, filled, before, price, pnl = fill
            fee = FEE * filled * price
            book.add("order_fill", filled, price, fee, order_id)
            book.add(
                "fills",
                f"{order_id}-1",
                order_id,
                book.session_id,
                position_id,
                bars.instrument_id,
                at,
                leg,
                "BUY" if buys else "SELL",
                filled,
                price,
                before,
                fee,
                pnl,
            )


def _other_fates(book: _Book, markets: Sequence[_Bars], end: datetime) -> None:
    """One signal that waits, one that expired, one that the limits refused (with its refused order)."""
    free = [bars for number, bars in enumerate(markets) if number not in (0, 2, 4)] or list(markets)
    for number, (fate, reason) in enumerate(
        [
            ("ACTIVE", None),
            ("EXPIRED", "not executed before its validity ended"),
            ("REJECTED", "margin per direction would pass 60 % of equity"),
        ]
    ):
        bars = free[number % len(free)]
        taken = {row[4] for row in book.rows["signals"] if row[2] == bars.instrument_id}
        index = bars.ts.index(end - SIGNAL) - 3 * 40 * number
        while bars.ts[index] in taken:
            index -= 3
        at = bars.ts[index]
        book.rows["decisions"] = [row for row in book.rows["decisions"] if (row[1], row[3]) != (bars.instrument_id, at)]
        _signal(book, bars, index, end, fate, reason)
        if fate == "REJECTED":
            order_id = f"{uuid5(book.session_id, f'{bars.symbol}{at.isoformat()}').hex[:24]}-E-0"
            book.add(
                "orders",
                order_id,
                book.session_id,
                uuid5(book.session_id, f"{bars.symbol}{at.isoformat()}"),
                None,
                bars.instrument_id,
                "ENTRY",
                "BUY",
                "MARKET",
                False,
                1.0,
                None,
                float(bars.ohlc[index, 3]),
                at + SIGNAL,
                at + SIGNAL,
            )
            book.add("order_status", "REJECTED", "exchange: insufficient margin <balance 12.40 USDT>", order_id)


_INSERTS = {
    "decisions": """insert into decisions (session_id, instrument_id, timeframe, ts, decided_at, outcome, reason, side,
        confidence, model_id, gates) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
    "signals": """insert into signals (signal_id, session_id, instrument_id, timeframe, ts, created_at, valid_until,
        side, entry_price, stop_price, tp1_price, tp2_price, tp3_price, atr, leverage, quantity, margin, probability,
        confidence, risk_reward, gross_profit, cost, net_profit, expected_value, model_id, factors, updated_at)
        values ("""
    + ", ".join(["%s"] * 27)
    + ")",
    "signal_status": "update signals set status = %s, status_reason = %s where signal_id = %s",
    "positions": """insert into positions (position_id, session_id, instrument_id, signal_id, side, status,
        quantity_initial, quantity_open, quantity_protected, entry_price, entry_margin, leverage, stop_price,
        initial_stop_price, liquidation_price, mark_price, unrealised_pnl, realised_pnl, fees, funding, slippage,
        close_reason, opened_at, closed_at, updated_at) values ("""
    + ", ".join(["%s"] * 25)
    + ")",
    "orders": """insert into orders (client_order_id, session_id, signal_id, position_id, instrument_id, leg, side,
        type, reduce_only, quantity, trigger_price, requested_price, created_at, updated_at)
        values ("""
    + ", ".join(["%s"] * 14)
    + ")",
    "order_status": "update orders set status = %s, status_reason = %s where client_order_id = %s",
    "order_fill": "update orders set filled_quantity = %s, average_price = %s, fee = %s where client_order_id = %s",
    "fills": "insert into fills values (" + ", ".join(["%s"] * 13) + ")",
    "funding_payments": "insert into funding_payments values (%s, %s, %s, %s, %s)",
}


def _write(connection: psycopg.Connection[Any], book: _Book) -> None:
    with connection.cursor() as cursor:
        for table, statement in _INSERTS.items():
            if table == "positions":
                _write_positions(cursor, statement, book)
            else:
                cursor.executemany(statement, book.rows.get(table, []))


def _write_positions(cursor: psycopg.Cursor[Any], statement: str, book: _Book) -> None:
    """A position starts open, and a symbol has one at a time: each is closed before the next."""
    closed = set(book.rows.get("position_closed", []))
    for row in book.rows.get("positions", []):
        cursor.execute(statement.encode(), row)
        if (row[0],) in closed:
            cursor.execute(
                "update positions set status = 'CLOSED', quantity_open = 0, quantity_protected = 0 "
                "where position_id = %s",
                (row[0],),
            )


def _equity(connection: psycopg.Connection[Any], book: _Book, start: datetime, end: datetime) -> None:
    events = sorted(book.cash_events, key=lambda event: event[0])
    closes = {id(bars): dict(zip(bars.ts, bars.ohlc[:, 3], strict=True)) for bars, *_ in book.holdings}
    rows, realised, position = [], 0.0, 0
    at = start + SIGNAL
    while at <= end:
        while position < len(events) and events[position][0] < at:
            realised, position = realised + events[position][1], position + 1
        held = [h for h in book.holdings if h[1] < at <= h[2]]
        unrealised = sum(quantity * (closes[id(bars)][at - BASE] - entry) for bars, _, _, quantity, entry in held)
        margin = sum(abs(quantity) * entry / LEVERAGE for *_, quantity, entry in held)
        equity = CAPITAL + realised + unrealised
        rows.append((book.session_id, at, equity, equity - margin - unrealised, margin, unrealised))
        at += SIGNAL
    with connection.cursor() as cursor:
        cursor.executemany("insert into equity values (%s, %s, %s, %s, %s, %s)", rows)


def _operation(connection: psycopg.Connection[Any], markets: Sequence[_Bars], seeded: Seeded, now: datetime) -> None:
    for bars in markets:
        connection.execute(
            "insert into source_status values ('simulated', %s, %s, 'candles 5m', %s, %s, null, null, %s, %s)",
            (EXCHANGE, bars.symbol, bars.ts[-1], now - timedelta(seconds=40), len(bars.ts), 41_250.0),
        )
    connection.execute(
        "update source_status set last_error = %s, last_error_at = %s where symbol = %s",
        ("timeout after 10 s: <html>502 Bad Gateway</html>", now - timedelta(hours=3), markets[-1].symbol),
    )
    gap = _floor(now - timedelta(days=2), BASE)
    for verdict, hours, bars_missing in (("open", 0, 3), ("absent", 30, 12)):
        connection.execute(
            "insert into ohlcv_gaps (instrument_id, timeframe, gap_start, gap_end, bars, verdict)"
            " values (%s, '5m', %s, %s, %s, %s)",
            (
                markets[-1].instrument_id,
                gap - timedelta(hours=hours),
                gap - timedelta(hours=hours) + BASE * bars_missing,
                bars_missing,
                verdict,
            ),
        )
    connection.execute(
        "insert into ohlcv_quarantine (source, exchange, symbol, timeframe, ts, reason, payload)"
        " values ('simulated', %s, %s, '5m', %s, 'high below low', %s)",
        (EXCHANGE, markets[-1].symbol, gap, Jsonb({"open": 1, "high": 0.9, "low": 1.1, "close": 1})),
    )
    for service, age in (("trader", 1), ("supervisor", 4), ("emission_sensor", 900)):
        connection.execute(
            "insert into heartbeats values (%s, %s, %s, %s)",
            (service, now - timedelta(seconds=age), now - timedelta(hours=5), Jsonb({"pid": 4711, "loops": 8_812})),
        )
    events = [
        ("candles_stored", "info", None, "BTCUSDT 5m", "3 candles stored"),
        ("signal_emitted", "info", seeded.paper, "SOLUSDT", "LONG at 151.20, confidence 61 %"),
        ("position_closed", "info", seeded.paper, "XRPUSDT", "TP3 hit, net +182.10 USDT"),
        ("source_failed", "warning", None, "PEPEUSDT", "timeout after 10 s: <b>502</b> *Bad* [Gateway](http://x)"),
        ("order_rejected", "critical", seeded.paper, "ETHUSDT", "exchange: insufficient margin"),
    ]
    for minutes, (kind, severity, session, subject, message) in enumerate(events):
        connection.execute(
            "insert into events (ts, kind, severity, session_id, subject, message) values (%s, %s, %s, %s, %s, %s)",
            (now - timedelta(minutes=20 - 3 * minutes), kind, severity, session, subject, message),
        )


def _backtests(connection: psycopg.Connection[Any], markets: Sequence[_Bars], now: datetime) -> None:
    """Two backtests, of which one fails its check, and a search with its out-of-sample result."""
    search_id = uuid5(NAMESPACE, "search")
    metrics = {
        **dict.fromkeys(("start_equity", "end_equity"), CAPITAL),
        **dict.fromkeys(("total_return", "max_drawdown", "exposure"), 0.1),
        **dict.fromkeys(("sharpe", "sortino", "calmar", "profit_factor", "average_r"), 1.2),
        **dict.fromkeys(("net_pnl", "fees", "funding", "slippage"), 12.5),
        "trades": 2,
        "win_rate": 0.5,
    }
    fold = {"train_start": "2025-01-01", "start": "2025-02-01", "end": "2025-03-01", "trial": 1, "in_sample": 2.1}
    connection.execute(
        """
        insert into backtest_searches (search_id, exchange, symbols, timeframe, starts_at, ends_at, strategy, space,
            plan, config, code_version, input_hash, folds, overfitting)
        values (%s, %s, %s, '15m', %s, %s, 'ema_cross', %s, %s, '{}', 'seed', 'seed', %s, %s)
        """,
        (
            search_id,
            EXCHANGE,
            [bars.symbol for bars in markets],
            now - timedelta(days=3),
            now,
            Jsonb({"fast": [5, 10]}),
            Jsonb({"objective": "sharpe", "trials": 2, "refused": 0, "fixed": {}, "capital": CAPITAL}),
            Jsonb([{**fold, "params": {"fast": 10}, "out_of_sample": metrics}]),
            Jsonb({"probability": 0.61, "loss": 0.5, "deflated_sharpe": None, "out_of_sample_probability": 0.42}),
        ),
    )
    for number, fast in enumerate((5, 10)):
        connection.execute(
            "insert into backtest_trials values (%s, %s, %s, '{2.1}', %s)",
            (search_id, number, Jsonb({"fast": fast}), Jsonb(metrics)),
        )
    found = "lookahead: entry of BTCUSDT at 2025-01-01T00:00 is 1, but 0 on its own <b>"
    passed = {"passed": True, "lookahead_samples": 24, "warm_up_samples": 24, "decisions": 20, "findings": []}
    kinds = (
        ("ema_cross", None, passed),
        ("cheat", None, {**passed, "passed": False, "findings": [found]}),
        ("ema_cross", search_id, None),
    )
    for number, (strategy, searched, check) in enumerate(kinds):
        backtest_id = uuid5(NAMESPACE, f"backtest {number}")
        connection.execute(
            """
            insert into backtests (backtest_id, created_at, search_id, exchange, symbols, timeframe, starts_at, ends_at,
                strategy, params, direction, start_capital, config, code_version, input_hash, bars, candidates,
                refusals, metrics, benchmark, benchmark_metrics, strategy_check)
            values (%s, %s, %s, %s, %s, '15m', %s, %s, %s, %s, 'BOTH', %s, %s, 'seed', 'seed', 100, 3, %s, %s,
                'BTCUSDT', %s, %s)
            """,
            (
                backtest_id,
                now - timedelta(minutes=number),
                searched,
                EXCHANGE,
                [bars.symbol for bars in markets],
                now - timedelta(days=2),
                now,
                strategy,
                Jsonb({"fast": 20}),
                CAPITAL,
                Jsonb({"execution": {"taker_fee_rate": FEE, "slippage_rate": SLIPPAGE, "leverage": LEVERAGE}}),
                Jsonb({"max_open_positions": 1}),
                Jsonb(metrics),
                Jsonb(metrics),
                None if check is None else Jsonb(check),
            ),
        )
        for hour in range(48):
            mark = CAPITAL * (1 + 0.001 * hour * (number + 1))
            at = now - timedelta(hours=48 - hour)
            connection.execute(
                "insert into backtest_equity values (%s, %s, %s, %s)", (backtest_id, at, mark, 2 * CAPITAL - mark)
            )
        for trade in range(2):
            opened = now - timedelta(hours=40 - 10 * trade)
            connection.execute(
                """
                insert into backtest_trades
                values (%s, %s, %s, 'LONG', %s, %s, %s, 1, 100, 100, 20, 99, 0.7, 'none', 5, 1, 0.5, 0.1, 3.5, 0, 1,
                    3.5, %s, null)
                """,
                (backtest_id, trade, markets[trade].symbol, opened, opened, None if trade else now, "TP3"),
            )
