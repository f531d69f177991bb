"""Why a trade exists: from its result back to candles and source rows, as `trading explain` tells it.

Belongs here: drawing the chain that `queries.trade_chain` found. Does not belong here: which trade is asked about (the
pages choose) and where the rows come from.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import decisions
import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Column

Row = Mapping[str, Any]


def offer(id_: str, key: str) -> None:
    """A switch that shows the chain of a signal, position or order; nothing is asked of the database before."""
    if st.toggle("Why? Show the whole chain back to its sources", key=f"{key}_why"):
        chain(id_, key)


def chain(id_: str, key: str) -> None:
    """Draw one step per link: result, orders, signal, decision, risk, model, features, score, observations, candles."""
    found = queries.trade_chain(id_)
    if found is None:
        layout.empty("Nothing led to this", "It belongs to no signal and to no position.")
        return
    with st.container(border=True):
        _result(found)
        _orders(found, key)
        if found["signal"] is None:
            st.caption("No signal led to it: it was found on the exchange, or a person opened it there.")
        else:
            _signal(found)
            _decision(found, key)
            _risk(found, key)
            _model(found)
            _features(found, key)
            _score(found)
            _observations(found, key)
            _candles(found, key)
        st.caption(f"The same with every value on the command line, recomputed: `trading explain {id_} --verify`")


def _step(title: str, *lines: str) -> None:
    st.markdown(f"**{title}**")
    for line in lines:
        st.caption(line)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _result(found: Row) -> None:
    for p in found["positions"]:
        ended = (
            f"closed {formats.moment_utc(_moment(p['closed_at']))} by {formats.words(p['close_reason']).lower()}"
            if p["closed_at"]
            else "still open"
        )
        price = p["realised_pnl"] + p["unrealised_pnl"]
        _step(
            "Result",
            f"{formats.side(p['side'])} {formats.quantity(p['quantity_initial'])} entered at "
            f"{formats.price(p['entry_price'])}, {formats.literal(ended)}",
            f"Net {formats.money(p['net'])} USDT = price {formats.money(price)} {formats.cost(p['fees'])} fees "
            f"{formats.cost(p['funding'])} funding",
        )
        for e in found["exit_decisions"]:
            if e["position_id"] == p["position_id"]:
                bar = formats.moment_utc(_moment(e["ts"]))
                st.caption(f"Exit decided at the close of {bar}: {formats.literal(formats.words(e['reason']))}")
    if not found["positions"]:
        _step("Result", "No position came of it.")


_ORDER_COLUMNS = (
    Column("at", "Created, UTC", formats.moment, kind="text", width=130),
    Column("leg", "Leg", formats.words, kind="text", width=80),
    Column("side", "Side", formats.side, layout.by_side, kind="text", width=80),
    Column("quantity", "Quantity", formats.quantity),
    Column("trigger_price", "Trigger", formats.price),
    Column("status", "Status", formats.words, kind="text", width=105),
    Column("fills", "Fills", kind="text", width=230),
    Column("client_order_id", "Client order id", kind="text", width=270),
)


def _orders(found: Row, key: str) -> None:
    if not found["orders"]:
        _step("Orders", "None was sent.")
        return
    rows = [
        {name: o[name] for name in ("leg", "side", "quantity", "trigger_price", "status", "client_order_id")}
        | {
            "at": _moment(o["created_at"]),
            "fills": ", ".join(
                f"{formats.quantity(f['quantity'])} at {formats.price(f['price'])}"
                for f in found["fills"]
                if f["client_order_id"] == o["client_order_id"]
            )
            or formats.MISSING,
        }
        for o in found["orders"]
    ]
    _step("Orders and fills")
    frame = pd.DataFrame(rows)
    frame["trigger_price"] = frame["trigger_price"].astype("float64")
    layout.table(frame, _ORDER_COLUMNS, f"{key}_chain_orders", rows=8)


def _signal(found: Row) -> None:
    s = found["signal"]
    targets = ", ".join(formats.price(s[f"tp{n}_price"]) for n in (1, 2, 3))
    _step(
        "Signal",
        f"{formats.side(s['side'])} by {formats.literal(s['strategy'])} on the {s['timeframe']} bar of "
        f"{formats.moment_utc(_moment(s['ts']))}; confidence {formats.share(s['confidence'])}, risk/reward "
        f"{formats.ratio(s['risk_reward'])}, expected net {formats.percent(s['net_profit'])}",
        f"Reference {formats.price(s['entry_price'])}, stop {formats.price(s['stop_price'])}, targets {targets}",
    )


def _decision(found: Row, key: str) -> None:
    decision, factors = found["decision"], found["signal"]["factors"]
    own = {name: weight for name, weight in (factors or {}).items() if not name.startswith("score")}
    if own:
        strongest = sorted(own.items(), key=lambda factor: -abs(factor[1]))[:8]
        told = ", ".join(
            f"{formats.literal(formats.name(name))} {formats.number(weight, 3, sign=True)}"
            for name, weight in strongest
        )
        _step("Factors", f"What moved it, the strongest first: {told}")
    if decision is not None:
        _step("Gates", f"Decided {formats.moment_utc(_moment(decision['decided_at']))}")
        measured = pd.DataFrame(decision["gates"], columns=["name", "value", "threshold", "passed"])
        decisions.gates(measured, f"{key}_chain_gates")


_RISK_COLUMNS = (
    Column("at", "Asked, UTC", formats.moment, kind="text", width=130),
    Column("stage", "When", formats.words, kind="text", width=110),
    Column("outcome", "Outcome", formats.words, kind="text", width=100),
    Column("quantity", "Quantity", formats.quantity),
    Column("reason", "Reason", kind="text", width=380),
)


def _risk(found: Row, key: str) -> None:
    if not found["risk"]:
        _step("Risk rules", "They were not asked.")
        return
    rows = [
        {name: r[name] for name in ("stage", "outcome", "quantity", "reason")} | {"at": _moment(r["assessed_at"])}
        for r in found["risk"]
    ]
    _step("Risk rules")
    layout.table(pd.DataFrame(rows), _RISK_COLUMNS, f"{key}_chain_risk", rows=5)


def _model(found: Row) -> None:
    model, promotion, prediction = found["model"], found["promotion"], found["prediction"]
    if model is None:
        _step("Model", "None: the strategy reads no model.")
        return
    lines = [
        f"{formats.literal(model['model_id'])}, trained on {formats.moment(_moment(model['train_from']))} to "
        f"{formats.moment_utc(_moment(model['as_of']))}, code {formats.literal(model['code_version'])}"
    ]
    if promotion is not None:
        since = formats.moment_utc(_moment(promotion["effective_from"]))
        lines.append(f"In production since {since}: {formats.literal(promotion['reason'])}")
    if prediction is not None:
        outcome = {None: "not known yet", 0: "the lower barrier first", 1: "the upper barrier first"}
        lines.append(
            f"Predicted {formats.side(prediction['side'])}, the upper barrier with probability "
            f"{formats.share(prediction['probability'])}; what happened: {outcome[prediction['outcome']]}"
        )
    _step("Model version", *lines)


_FEATURE_COLUMNS = (
    Column("name", "Feature", kind="text", width=220),
    Column("value", "Value", lambda v: formats.number(v, 5)),
    Column("weight", "Weight in the prediction", lambda v: formats.number(v, 3, sign=True), layout.by_sign),
)


def _features(found: Row, key: str) -> None:
    features = found["features"]
    if features is None:
        _step("Features", "No row is stored at this bar.")
        return
    factors = found["signal"]["factors"]
    frame = pd.DataFrame(
        [
            {"name": name, "value": _number(value), "weight": _number(factors.get(name))}
            for name, value in features["values"].items()
        ]
    ).sort_values("weight", key=lambda weights: -weights.abs(), na_position="last")
    available = formats.moment_utc(_moment(features["available_at"]))
    _step("Features", f"Set {features['feature_set_id']}, {len(frame)} values, known since {available}")
    layout.table(frame, _FEATURE_COLUMNS, f"{key}_chain_features", rows=8)


def _number(value: Any) -> float:
    """JSON has no NaN: PostgreSQL writes it as text."""
    return float("nan") if value is None else float(value)


def _score(found: Row) -> None:
    score = found["score"]
    if score is None:
        return
    factors = [(name, _number(f["value"]), _number(f["contribution"])) for name, f in score["factors"].items()]
    told = ", ".join(
        f"{formats.words(name).lower()} {formats.number(points, 1, sign=True)}"
        for name, value, points in sorted(factors, key=lambda factor: -abs(factor[2]))
        if not formats.missing(value)
    )
    _step("Composite score", f"{formats.number(_number(score['score']), 1)} of 100; points above or below 50: {told}")


_OBSERVATION_COLUMNS = (
    Column("for", "Part of", kind="text", width=230),
    Column("made", "Made", lambda v: formats.number(v, 4)),
    Column("series", "Series", kind="text", width=190),
    Column("coin", "Coin", kind="text", width=90),
    Column("value", "Newest value", lambda v: formats.number(v, 4)),
    Column("source", "Source", kind="text", width=120),
    Column("ts", "Speaks of, UTC", formats.moment, kind="text", width=130),
    Column("available_at", "Known since, UTC", formats.moment, kind="text", width=130),
    Column("rows", "Values", lambda v: formats.number(v, 0)),
)
_TEXT_COLUMNS = (
    Column("ts", "Published, UTC", formats.moment, kind="text", width=130),
    Column("source", "Source", kind="text", width=120),
    Column("title", "Text", kind="text", width=520),
    Column("score", "Score", lambda v: formats.number(v, 2, sign=True), layout.by_sign),
    Column("weight", "Weight", lambda v: formats.number(v, 3)),
)


def _observations(found: Row, key: str) -> None:
    """What was known besides candles, one row per feature and input of the score; and the texts behind a sentiment."""
    known = [entry for entry in found["observations"] if entry["rows"]]
    if not known:
        return
    rows = [
        {name: entry[name] for name in ("series", "coin", "rows")}
        | {name: entry["newest"][name] for name in ("source", "value")}
        | {
            "for": f"{entry['read_by']} {entry['name']}",
            "made": _number(entry["made"]),
            "ts": _moment(entry["newest"]["ts"]),
            "available_at": _moment(entry["newest"]["available_at"]),
        }
        for entry in known
    ]
    _step("Observations", "What was known besides candles, each value as it was known at the decision.")
    layout.table(pd.DataFrame(rows), _OBSERVATION_COLUMNS, f"{key}_chain_observations", rows=8)
    texts = next((e["made_of"] for e in known if e["made_of"] and e["made_of"]["kind"] == "texts"), None)
    if texts is not None:
        names = ("source", "title", "score", "weight")
        named = [{n: row[n] for n in names} | {"ts": _moment(row["published_at"])} for row in texts["rows"]]
        st.caption(f"The sentiment came of {texts['count']} texts, the weightiest first:")
        layout.table(pd.DataFrame(named), _TEXT_COLUMNS, f"{key}_chain_texts", rows=5)


_WINDOW_COLUMNS = (
    Column("role", "Read as", kind="text", width=170),
    Column("symbol", "Symbol", kind="text", width=95),
    Column("timeframe", "Bars of", kind="text", width=75),
    Column("from", "From, UTC", formats.moment, kind="text", width=130),
    Column("to", "To, UTC", formats.moment, kind="text", width=130),
    Column("candles", "Candles", lambda v: formats.number(v, 0)),
    Column("missing_bars", "Missing", lambda v: formats.number(v, 0), lambda v: False if v else None),
    Column("corrected", "Corrected later", lambda v: formats.number(v, 0), lambda v: False if v else None),
    Column("quarantined", "Quarantined", lambda v: formats.number(v, 0), lambda v: False if v else None),
)


def _candles(found: Row, key: str) -> None:
    candle = found["candle"]
    sources = ", ".join(sorted({f"{s['source']} {s['timeframe']}" for s in found["sources"]})) or "an unknown source"
    line = "The candle of the decision is not stored."
    if candle is not None:
        prices = ", ".join(f"{name} {formats.price(candle[name])}" for name in ("open", "high", "low", "close"))
        known = formats.moment_utc(_moment(candle["available_at"]))
        line = f"Bar of {formats.moment_utc(_moment(candle['ts']))}: {prices}; known since {known}"
    _step("Candles", line, f"From {formats.literal(sources)}")
    windows: Sequence[Row] = found["candles"] if found["features"] is not None else []
    if windows:
        names = ("role", "symbol", "timeframe", "candles", "missing_bars", "corrected", "quarantined")
        rows = [{n: w[n] for n in names} | {"from": _moment(w["first"]), "to": _moment(w["last"])} for w in windows]
        layout.table(pd.DataFrame(rows), _WINDOW_COLUMNS, f"{key}_chain_windows", rows=6)
