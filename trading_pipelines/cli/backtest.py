"""`trading backtest`: run one, search for parameters, and read what is stored.

Belongs here: reading the question from the command line and writing the answer. Does not belong here: how a backtest
is made (`application.research.backtest`) and searched (`application.research.search`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import (
    Direction,
    Exchange,
    Json,
    Symbols,
    Timeframe,
    check_direction,
    check_timeframe,
    moment,
    prepare,
    read_params,
    span,
    split_symbols,
    stored_symbols,
)
from trading_pipelines.cli.output import percent, print_json, print_table
from trading_pipelines.cli.progress import progress_display
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.application.research.backtest import BacktestRequest
    from trading_pipelines.settings import Settings
    from trading_pipelines.store.connection import Connection
    from trading_pipelines.store.read_models.backtests import BacktestSummary, SearchSummary

app = typer.Typer(
    invoke_without_command=True,
    help="Let a strategy trade over stored candles, by the rules of the order path; results are kept.",
)

Strategy = Annotated[
    str | None,
    typer.Option("--strategy", help="Name, file.py:Class or module:Class. [default: TRADING_SESSION__STRATEGIES]"),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--params", "--param", help="name=value, or a JSON object of them; may be given again."),
]
From = Annotated[str | None, typer.Option("--from", help="First bar, UTC.")]
To = Annotated[str | None, typer.Option("--to", help="End, not included.")]
Capital = Annotated[float | None, typer.Option(min=1.0, help="Start balance. [default: TRADING_SESSION__CAPITAL]")]
Finer = Annotated[str | None, typer.Option(help="Timeframe on whose bars fills are made, for example 5m.")]
Export = Annotated[Path | None, typer.Option(help="Folder for CSV files and an HTML tear sheet.")]


@app.callback()
def backtest(
    context: typer.Context,
    strategy: Strategy = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    start: From = None,
    end: To = None,
    params: Params = None,
    capital: Capital = None,
    finer: Finer = None,
    direction: Direction = None,
    exchange: Exchange = None,
    versus: Annotated[
        str | None, typer.Option(help="A second strategy over the same, for comparison; with its own defaults.")
    ] = None,
    check: Annotated[bool, typer.Option(help="Ask the strategy again with less data: does it look ahead?")] = True,
    export: Export = None,
    as_json: Json = False,
) -> None:
    """Let a strategy trade over stored candles and compare it with holding bitcoin."""
    if context.invoked_subcommand is not None:
        return
    from trading_pipelines.application.research import backtest as run
    from trading_pipelines.application.research.backtest_files import export as write_files
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare(exchange=exchange)
    with (
        progress_display() as display,
        ready_database(settings) as url,
        connect(url, application_name="backtest") as connection,
    ):
        asked = _request(
            connection, settings, strategy, symbols, timeframe, start, end, params, capital, finer, direction
        )
        questions = [asked]
        if versus is not None:
            questions.append(replace(asked, strategy=versus, params={}))
        summaries = list["BacktestSummary"]()
        for question in questions:

            def tell(stage: str, name: str = question.strategy) -> None:
                display.update(f"{name}: {stage}")

            made = run.backtest(connection, settings, question, check=check, on_progress=tell)
            connection.commit()
            summaries.append(_stored(connection, str(made.backtest_id)))
        files = write_files(connection, summaries[0], export, summaries[1:]) if export else []
    _show(summaries, files, as_json)


@app.command()
def search(
    space: Annotated[
        list[str],
        typer.Option(help="Values to try, as name=5,10,20 or name=from:to:step; once for each parameter."),
    ],
    strategy: Strategy = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    start: From = None,
    end: To = None,
    params: Params = None,
    capital: Capital = None,
    finer: Finer = None,
    direction: Direction = None,
    exchange: Exchange = None,
    objective: Annotated[
        str, typer.Option(help="What the choice maximises: sharpe, sortino, calmar, total_return, profit_factor ...")
    ] = "sharpe",
    folds: Annotated[int | None, typer.Option(min=1, help="Out-of-sample windows. [default: settings]")] = None,
    train_ratio: Annotated[
        float | None, typer.Option(min=0.1, help="In-sample length in out-of-sample lengths. [default: settings]")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=2, help="Combinations at most; of a larger space so many are drawn.")
    ] = None,
    export: Export = None,
    as_json: Json = False,
) -> None:
    """Choose parameters on what was known, trade the next window with them, and go on: out-of-sample results."""
    from trading_pipelines.application.research import search as run
    from trading_pipelines.application.research.backtest_files import export as write_files
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect
    from trading_pipelines.store.read_models import backtests

    settings = prepare(exchange=exchange)
    with (
        progress_display() as display,
        ready_database(settings) as url,
        connect(url, application_name="backtest") as connection,
    ):
        base = _request(
            connection, settings, strategy, symbols, timeframe, start, end, params, capital, finer, direction
        )
        asked = run.SearchRequest(
            base, _space(space), run.objective_named(objective), folds=folds, train_ratio=train_ratio, trials=trials
        )
        made = run.search(connection, settings, asked, on_progress=display.update)
        connection.commit()
        found = backtests.search(connection, made.search_id)
        summary = _stored(connection, str(made.backtest_id))
        files = write_files(connection, summary, export) if export else []
    assert found is not None  # just stored
    if as_json:
        print_json({**asdict(found), "out_of_sample": _backtest_json(summary), "files": [str(f) for f in files]})
        return
    _show_search(found)
    _show([summary], files, as_json=False)


def _space(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Values by parameter from `name=a,b,c` or `name=from:to:step`, both ends included."""
    space: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not values.strip():
            raise UserError(f"--space {text!r}: write it as name=5,10,20 or name=5:40:5")
        space[name.strip()] = _range(text, values) if ":" in values else list(_listed(values))
    return space


def _range(text: str, values: str) -> list[Any]:
    try:
        low, high, step = (Decimal(part) for part in values.split(":"))
    except (ValueError, InvalidOperation):
        raise UserError(f"--space {text!r}: write a range as name=from:to:step, for example fast=5:40:5") from None
    if not all(number.is_finite() for number in (low, high, step)) or step <= 0 or high < low:
        raise UserError(f"--space {text!r}: the range has to rise, with a step above zero")
    made = [low + step * n for n in range(int((high - low) / step) + 1)]
    return [int(value) if value == value.to_integral_value() else float(value) for value in made]


def _listed(values: str) -> Iterator[Any]:
    for value in values.split(","):
        yield from read_params([f"value={value.strip()}"]).values()


def _show_search(found: "SearchSummary") -> None:
    print_table(
        f"Windows of the search, {found.plan['trials']} combinations, chosen by {found.plan['objective']}",
        ("from", "to", *found.space, "in sample", "out of sample", "return", "drawdown"),
        [
            (
                fold["start"][:10],
                fold["end"][:10],
                *(fold["params"][name] for name in found.space),
                fold["in_sample"],
                fold["out_of_sample"][found.plan["objective"]],
                percent(fold["out_of_sample"]["total_return"]),
                percent(-fold["out_of_sample"]["max_drawdown"]),
            )
            for fold in found.folds
        ],
    )
    measured = found.overfitting
    judged = measured["deflated_sharpe"] or {}
    print_table(
        "Overfitting",
        ("measure", "value"),
        [
            ("probability that the best combination is mediocre elsewhere", _share(measured["probability"])),
            ("probability that it loses elsewhere", _share(measured["loss"])),
            ("deflated Sharpe ratio of the best: probability of an edge", _share(judged.get("probability"))),
            ("independent combinations", judged.get("trials")),
            ("probability that the result out of sample has an edge", _share(measured["out_of_sample_probability"])),
        ],
    )
    typer.echo(f"search stored as {found.search_id}")


def _share(value: float | None) -> str:
    return percent(value).lstrip("+")


@app.command("list")
def list_stored(
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List stored backtests and searches, the newest first."""
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect
    from trading_pipelines.store.read_models import backtests

    settings = prepare()
    with ready_database(settings) as url, connect(url, application_name="backtest") as connection:
        found = backtests.list_backtests(connection, limit)
        searches = backtests.list_searches(connection, limit)
    if as_json:
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        print_json({"backtests": rows, "searches": [asdict(search) for search in searches]})
        return
    print_table(
        "Backtests",
        ("id", "strategy", "symbols", "bars", "return", "held", "drawdown", "trades"),
        [
            (
                str(row["backtest_id"])[:8],
                row["strategy"] + (" out of sample" if row["search_id"] else ""),
                " ".join(row["symbols"]),
                f"{row['timeframe']} {row['starts_at']:%Y-%m-%d} to {row['ends_at']:%Y-%m-%d}",
                percent(row["total_return"]),
                percent(None if row["held_return"] != row["held_return"] else row["held_return"]),
                percent(-row["max_drawdown"]),
                int(row["trades"]),
            )
            for row in found.to_dict("records")
        ],
    )
    if searches:
        print_table(
            "Searches",
            ("id", "strategy", "symbols", "combinations", "windows", "overfitting"),
            [
                (
                    str(s.search_id)[:8],
                    s.strategy,
                    ", ".join(s.symbols),
                    s.plan["trials"],
                    len(s.folds),
                    _share(s.overfitting["probability"]),
                )
                for s in searches
            ],
        )


@app.command()
def show(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Backtests; the beginning of an id is enough.")],
    export: Export = None,
    as_json: Json = False,
) -> None:
    """Show a stored backtest, or several side by side."""
    from trading_pipelines.application.research.backtest_files import export as write_files
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare()
    with ready_database(settings) as url, connect(url, application_name="backtest") as connection:
        summaries = [_stored(connection, beginning) for beginning in ids]
        files = write_files(connection, summaries[0], export, summaries[1:]) if export else []
    _show(summaries, files, as_json)


def _request(
    connection: "Connection",
    settings: "Settings",
    strategy: str | None,
    symbols: str | None,
    timeframe: str | None,
    start: str | None,
    end: str | None,
    params: Sequence[str] | None,
    capital: float | None,
    finer: str | None,
    direction: str | None,
) -> "BacktestRequest":
    """The question, checked as far as it can be without the strategy."""
    from trading_pipelines.application.research.backtest import BacktestRequest
    from trading_pipelines.domain.market.timeframe import Timeframe as Known

    if start is None or end is None:
        raise UserError("say over which time: --from 2025-01-01 --to 2025-07-01")
    since, until = span(moment(start, "--from"), moment(end, "--to"))
    return BacktestRequest(
        strategy=strategy or settings.session.strategies[0],
        exchange=settings.exchange,
        symbols=stored_symbols(connection, settings.exchange, split_symbols(symbols) or settings.symbols),
        timeframe=Known(check_timeframe(timeframe or settings.signal_timeframe)),
        start=since,
        end=until,
        params=read_params(params or ()),
        capital=settings.session.capital if capital is None else capital,
        finer=Known(check_timeframe(finer)) if finer else None,
        direction=settings.session.direction if direction is None else check_direction(direction),
    )


def _stored(connection: "Connection", beginning: str) -> "BacktestSummary":
    from trading_pipelines.store.read_models import backtests

    found = backtests.find_backtests(connection, beginning)
    if not found:
        raise UserError(f"there is no backtest {beginning}: see `trading backtest list`")
    if len(found) > 1:
        raise UserError(f"{beginning} is the beginning of {len(found)} ids of backtests: give more of it")
    return found[0]


def _show(summaries: "Sequence[BacktestSummary]", files: Sequence[Path], as_json: bool) -> None:
    from trading_pipelines.domain.research.tear_sheet import figure_rows

    first = summaries[0]
    if as_json:
        print_json(
            {
                **_backtest_json(first),
                "versus": [_backtest_json(other) for other in summaries[1:]],
                "files": [str(file) for file in files],
            }
        )
        return
    columns = {_heading(summary, summaries): summary.performance for summary in summaries}
    if first.benchmark is not None and first.benchmark_performance is not None:
        columns[f"{first.benchmark} held"] = first.benchmark_performance
    written = [figure_rows(performance) for performance in columns.values()]
    print_table(
        f"Backtest of {', '.join(first.symbols)}, {first.timeframe}, {first.starts_at:%Y-%m-%d} to "
        f"{first.ends_at:%Y-%m-%d}",
        ("figure", *columns),
        [(row[0][0], *(value for _, value in row)) for row in zip(*written, strict=True)],
    )
    gates, rules = first.gate_refusals, first.rule_refusals
    if gates:
        print_table("Refused by the gates", ("gate", "proposals"), [*gates.items()])
    if rules:
        print_table(f"Refused, of {first.candidates:,} candidates", ("rule", "candidates"), [*rules.items()])
    for summary in summaries:
        typer.echo(f"{summary.strategy}: {summary.verdict}")
        typer.echo(f"{summary.strategy}: stored as {summary.backtest_id}")
    for file in files:
        typer.echo(f"written {file}")


def _heading(summary: "BacktestSummary", summaries: "Sequence[BacktestSummary]") -> str:
    """The strategy's name, with the beginning of the id where several share it."""
    shared = sum(other.strategy == summary.strategy for other in summaries) > 1
    return f"{summary.strategy} {str(summary.backtest_id)[:8]}" if shared else summary.strategy


def _backtest_json(summary: "BacktestSummary") -> Mapping[str, Any]:
    return {
        "id": summary.backtest_id,
        "strategy": summary.strategy,
        "params": summary.params,
        "exchange": summary.exchange,
        "symbols": summary.symbols,
        "timeframe": summary.timeframe,
        "finer": summary.finer,
        "from": summary.starts_at,
        "to": summary.ends_at,
        "direction": summary.direction,
        "capital": summary.start_capital,
        "bars": summary.bars,
        "candidates": summary.candidates,
        "gates": summary.gate_refusals,
        "refusals": summary.rule_refusals,
        "performance": summary.metrics,
        "benchmark": {"symbol": summary.benchmark, "performance": summary.benchmark_metrics},
        "check": summary.strategy_check,
        "code_version": summary.code_version,
        "input_hash": summary.input_hash,
    }
