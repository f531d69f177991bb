"""Stored backtests: one result against bitcoin and against another, its trades, and the parameter searches."""

from collections.abc import Mapping, Sequence
from typing import Any

import charts
import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Card, Column

from trading_pipelines.store.read_models.backtests import BacktestSummary, SearchSummary

layout.header("Backtests", "What a strategy would have earned after all costs, and how much of that is chance.")

_LIMIT = 200
_TRADES = 2_000
_COMMAND = "trading backtest --strategy ema_cross --from 2025-01-01 --to 2025-07-01"
_SEARCH_COMMAND = (
    "trading backtest search --strategy ema_cross --space fast=5:40:5 --space slow=40:160:40 --from 2025-01-01 "
    "--to 2025-07-01"
)
_LIST_COLUMNS = (
    Column("strategy", "Strategy", kind="text", pinned=True, width=120),
    Column("kind", "Kind", kind="text", width=100),
    Column("traded", "Symbols", kind="text", width=150),
    Column("timeframe", "Timeframe", kind="text"),
    Column("starts_at", "From, UTC", formats.moment, kind="text", width=130),
    Column("ends_at", "To, UTC", formats.moment, kind="text", width=130),
    Column("total_return", "Return", formats.percent, layout.by_sign),
    Column("held_return", "BTC held", formats.percent, layout.by_sign),
    Column("max_drawdown", "Drawdown", lambda v: formats.share(-v)),
    Column("sharpe", "Sharpe", formats.ratio),
    Column("trades", "Closed", lambda v: formats.number(v, 0)),
    Column("win_rate", "Win rate", formats.share),
    Column("profit_factor", "Profit factor", formats.ratio),
    Column("created_at", "Made, UTC", formats.moment, kind="text", width=130),
)
_TRADE_COLUMNS = (
    Column("symbol", "Symbol", kind="text", pinned=True),
    Column("side", "Side", formats.side, layout.by_side, kind="text"),
    Column("opened_at", "Opened, UTC", formats.moment, kind="text", width=130),
    Column("closed_at", "Closed, UTC", formats.moment, kind="text", width=130),
    Column("entry_price", "Entry", formats.price),
    Column("quantity", "Quantity", formats.quantity),
    Column("net", "Net, USDT", formats.money, layout.by_sign),
    Column("r", "R", lambda v: formats.number(v, 2, sign=True), layout.by_sign),
    Column("fees", "Fees", formats.cost),
    Column("funding", "Funding", formats.cost),
    Column("closed_by", "Closed by", formats.words, kind="text"),
)
_FIGURES: Mapping[str, tuple[str, Any]] = {
    "end_equity": ("End equity, USDT", formats.number),
    "total_return": ("Return", formats.percent),
    "max_drawdown": ("Largest drawdown", lambda v: formats.share(-v)),
    "sharpe": ("Sharpe", formats.ratio),
    "sortino": ("Sortino", formats.ratio),
    "calmar": ("Calmar", formats.ratio),
    "trades": ("Closed positions", lambda v: formats.number(v, 0)),
    "win_rate": ("Win rate", formats.share),
    "profit_factor": ("Profit factor", formats.ratio),
    "average_r": ("Average R", lambda v: formats.number(v, 3, sign=True)),
    "exposure": ("Exposure", formats.share),
    "fees": ("Fees, USDT", formats.number),
    "funding": ("Funding, USDT", formats.number),
    "slippage": ("Slippage, USDT", formats.number),
}


def _cards(found: BacktestSummary) -> list[Card]:
    figures, held = found.metrics, found.benchmark_metrics
    cards = [
        Card(
            "Return",
            formats.percent(figures["total_return"]),
            None if held is None else f"held: {formats.percent(held['total_return'])}",
            layout.by_sign(figures["total_return"] - (0 if held is None else held["total_return"])),
            help=f"Of {formats.number(found.start_capital, 0)} USDT, after all costs",
        )
    ]
    names = ("max_drawdown", "sharpe", "sortino", "calmar", "trades", "win_rate", "profit_factor", "average_r")
    return cards + [Card(_FIGURES[name][0], _FIGURES[name][1](figures[name])) for name in names]


def _verdict(found: BacktestSummary) -> None:
    text = formats.literal(found.verdict)
    if found.strategy_check is not None and not found.strategy_check["passed"]:
        st.error(text, icon=":material/visibility:")
    else:
        st.caption(text)


def _side_by_side(columns: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    frame = pd.DataFrame({"figure": [label for label, _ in _FIGURES.values()]})
    for number, (_, metrics) in enumerate(columns):
        frame[str(number)] = [write(metrics[name]) for name, (_, write) in _FIGURES.items()]
    shown = [Column("figure", "Figure", kind="text", pinned=True, width=150)]
    shown += [Column(str(number), name) for number, (name, _) in enumerate(columns)]
    layout.table(frame, shown, "figures", rows=len(_FIGURES))


def _choose_other(found: BacktestSummary, listed: pd.DataFrame) -> BacktestSummary | None:
    others = {
        str(row["backtest_id"]): f"{row['strategy']} {', '.join(row['symbols'])} {row['timeframe']} "
        f"{row['starts_at']:%Y-%m-%d} to {row['ends_at']:%Y-%m-%d}, {str(row['backtest_id'])[:8]}"
        for row in listed.to_dict("records")
        if row["backtest_id"] != found.backtest_id
    }
    chosen = st.selectbox(
        "Compare with",
        list(others),
        index=None,
        format_func=lambda key: others[key],
        placeholder="Another backtest",
        key="b_other",
        disabled=not others,
    )
    ids = {str(value): value for value in listed["backtest_id"]}
    return queries.backtest(ids[chosen]) if chosen in ids else None


def _trades(found: BacktestSummary) -> None:
    trades = queries.backtest_trades(found.backtest_id)
    if trades.empty:
        layout.empty("No position was opened", "No set-up of the strategy passed its gates and the risk rules.")
        return
    st.markdown("**Trades**")
    newest = trades.iloc[::-1].head(_TRADES).reset_index(drop=True)
    layout.table(newest, _TRADE_COLUMNS, "trades", rows=12)
    if len(trades) > len(newest):
        st.caption(f"The newest {len(newest)} of {len(trades)}; the file has all.")
    st.download_button(
        "Trades as CSV",
        trades.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%SZ"),
        f"backtest-{str(found.backtest_id)[:8]}-trades.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def _detail(found: BacktestSummary, listed: pd.DataFrame) -> None:
    st.subheader(formats.literal(found.label), anchor=False)
    _verdict(found)
    layout.cards(_cards(found), min_width=120)
    other = _choose_other(found, listed)
    figure = charts.equity(
        queries.backtest_curve(found.backtest_id, found.start_capital), found.benchmark, found.start_capital
    )
    columns = [("This one", found.metrics)]
    if other is not None:
        charts.add_equity(figure, queries.backtest_curve(other.backtest_id, other.start_capital), other.label)
        columns.append(("The other", other.metrics))
    if found.benchmark is not None and found.benchmark_metrics is not None:
        columns.append((f"{found.benchmark} held", found.benchmark_metrics))
    st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="backtest_equity")
    left, right = st.columns(2, gap="medium")
    with left:
        _side_by_side(columns)
    with right:
        _asked(found)
    _trades(found)


def _asked(found: BacktestSummary) -> None:
    refused = ", ".join(f"{formats.words(rule)} {count}" for rule, count in found.rule_refusals.items()) or "none"
    gates = ", ".join(f"{formats.gate(gate)} {count}" for gate, count in found.gate_refusals.items()) or "none"
    execution = found.config["execution"]
    lines = (
        f"{', '.join(found.symbols)} on {found.exchange}, {found.direction.lower()} sides",
        f"Fills on {found.finer or found.timeframe} bars, {formats.number(found.bars, 0)} of them",
        f"Taker fee {formats.percent(execution['taker_fee_rate'], 3, sign=False)}, slippage "
        f"{formats.percent(execution['slippage_rate'], 3, sign=False)} per fill, leverage {execution['leverage']:g}",
        f"Refused by the gates: {gates}",
        f"{formats.number(found.candidates, 0)} candidates; refused: {refused}",
        f"Backtest {found.backtest_id}",
        f"Code {found.code_version}, input {found.input_hash[:16]}",
    )
    st.caption("  \n".join(formats.literal(line) for line in lines))


def _searches(searches: Sequence[SearchSummary]) -> None:
    st.subheader("Parameter searches", anchor=False)
    if not searches:
        layout.empty("No search yet", "A search chooses parameters on what was known and trades the next window.")
        st.code(_SEARCH_COMMAND, language="bash")
        return
    frame = pd.DataFrame(
        {
            "strategy": [s.strategy for s in searches],
            "symbols": [", ".join(s.symbols) for s in searches],
            "trials": [s.plan["trials"] for s in searches],
            "folds": [len(s.folds) for s in searches],
            "probability": [s.overfitting["probability"] for s in searches],
            "deflated": [(s.overfitting["deflated_sharpe"] or {}).get("probability") for s in searches],
            "outside": [s.overfitting["out_of_sample_probability"] for s in searches],
            "created_at": [s.created_at for s in searches],
        }
    )
    columns = (
        Column("strategy", "Strategy", kind="text", pinned=True),
        Column("symbols", "Symbols", kind="text", width=150),
        Column("trials", "Combinations", lambda v: formats.number(v, 0)),
        Column("folds", "Windows", lambda v: formats.number(v, 0)),
        Column(
            "probability",
            "Overfitting",
            formats.share,
            help="How often the best of one half disappoints in the other",
        ),
        Column("deflated", "Edge of the best", formats.share, help="Deflated Sharpe ratio: 95 % and more convinces"),
        Column("outside", "Edge out of sample", formats.share, help="Probability that the stitched result has an edge"),
        Column("created_at", "Made, UTC", formats.moment, kind="text", width=130),
    )
    row = layout.table(frame, columns, "searches", rows=6, selectable=True, selected=0)
    _search(searches[row or 0])


def _search(search: SearchSummary) -> None:
    objective = search.plan["objective"]
    folds = pd.DataFrame(
        {
            "window": [f"{fold['start'][:10]} to {fold['end'][:10]}" for fold in search.folds],
            "params": [_pairs({name: fold["params"][name] for name in search.space}) for fold in search.folds],
            "inside": [fold["in_sample"] for fold in search.folds],
            "outside": [fold["out_of_sample"][objective] for fold in search.folds],
            "total_return": [fold["out_of_sample"]["total_return"] for fold in search.folds],
        }
    )
    name = formats.words(objective)
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Windows**")
        columns = (
            Column("window", "Traded, UTC", kind="text", width=180),
            Column("params", "Chosen", kind="text", width=140),
            Column("inside", f"{name} in sample", formats.ratio),
            Column("outside", f"{name} out of sample", formats.ratio),
            Column("total_return", "Return", formats.percent, layout.by_sign),
        )
        layout.table(folds, columns, "folds", rows=10)
    with right:
        st.markdown("**Combinations over the whole time**")
        trials = queries.search_trials(search.search_id)
        trials["params"] = [_pairs({k: params[k] for k in search.space}) for params in trials["params"]]
        columns = (
            Column("params", "Parameters", kind="text", width=160),
            Column("sharpe", "Sharpe", formats.ratio),
            Column("total_return", "Return", formats.percent, layout.by_sign),
            Column("max_drawdown", "Drawdown", lambda v: formats.share(-v)),
            Column("trades", "Closed", lambda v: formats.number(v, 0)),
        )
        layout.table(trials, columns, "trials", rows=10)
    st.caption("The best combination over the whole time is a result of hindsight; what counts is out of sample.")


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _some(symbols: Sequence[str]) -> str:
    """Symbols by name where they are few."""
    return ", ".join(symbols) if len(symbols) <= 3 else f"{len(symbols)} symbols"


def _page() -> None:
    listed = queries.list_backtests(_LIMIT)
    if listed.empty:
        layout.empty(
            "No backtest yet",
            "Run one over stored candles with the command below; `trading up` or `trading ingest` stores candles.",
        )
        st.code(_COMMAND, language="bash")
        return
    listed["kind"] = listed["search_id"].isna().map({True: "Backtest", False: "Out of sample"})
    listed["traded"] = [_some(symbols) for symbols in listed["symbols"]]
    row = layout.table(listed, _LIST_COLUMNS, "backtests", rows=7, selectable=True, selected=0)
    found = queries.backtest(listed["backtest_id"].iloc[row or 0])
    if found is not None:
        _detail(found, listed)
    _searches(queries.list_searches(_LIMIT))


_page()
