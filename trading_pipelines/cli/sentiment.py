"""`trading sentiment`: what texts say about coins."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from trading_pipelines.cli.context import Json, moment, prepare, span
from trading_pipelines.cli.output import print_json, print_table
from trading_pipelines.errors import UserError

app = typer.Typer(no_args_is_help=True, help="What news and posts say about coins.")
_TEXTS, _HOURS = 15, 24


@app.command("show")
def show(
    coin: Annotated[str | None, typer.Argument(help="For example BTC. [default: all coins]")] = None,
    as_json: Json = False,
) -> None:
    """Show the newest sentiment of all coins, or that of one with the texts of its last day."""
    from datetime import UTC, datetime

    from trading_pipelines.store.connection import connect, resolve_url
    from trading_pipelines.store.read_models.sentiment import coin_texts, newest_sentiment

    settings = prepare()
    simulated = settings.exchange == "simulated"
    with connect(resolve_url(settings), application_name="sentiment") as connection:
        newest = newest_sentiment(connection, simulated=simulated)
        chosen = newest if coin is None else newest[newest["coin"] == coin.upper()]
        if coin is not None and chosen.empty:
            others = ", ".join(newest["coin"]) or "no coin yet"
            raise UserError(f"no sentiment of {coin.upper()} is stored; there is one of: {others}")
        since = datetime.now(UTC) - timedelta(hours=_HOURS)
        texts = coin_texts(connection, coin.upper(), since, _TEXTS, simulated=simulated) if coin else None
    rows: list[dict[Any, Any]] = chosen.sort_values(["mentions", "coin"], ascending=[False, True]).to_dict("records")
    if as_json:
        print_json({"sentiment": rows, **({} if texts is None else {"texts": texts.to_dict("records")})})
        return
    columns = ("coin", "score", "mentions", "change_4h", "low", "high", "ts")
    print_table("Sentiment", columns, [tuple(_value(row[name]) for name in columns) for row in rows])
    if texts is not None:
        found: list[dict[Any, Any]] = texts.to_dict("records")
        names = ("available_at", "score", "source", "title")
        shown = [tuple(_value(row[name]) for name in names) for row in found]
        print_table(f"Texts of the last {_HOURS} h", ("known", "score", "source", "title"), shown)


@app.command("score")
def score(text: Annotated[str, typer.Argument(help="Any text.")], as_json: Json = False) -> None:
    """Read a text as the platform does: language, coins, score; stores nothing."""
    from trading_pipelines.application.alternative.sentiment import open_readers
    from trading_pipelines.domain.sentiment.entities import Linker
    from trading_pipelines.domain.sentiment.language import detect_language
    from trading_pipelines.domain.sentiment.normalise import normalise
    from trading_pipelines.domain.sentiment.score import Unscored

    settings = prepare()
    whole = normalise(text)
    if not whole:
        raise UserError("nothing readable in this text")
    readers = open_readers(settings.sentiment)
    language = detect_language(whole)
    scorer = readers.main if language in readers.languages else readers.other
    answer = None if scorer is None else scorer.score([whole])[0]
    if isinstance(answer, Unscored):
        raise UserError(f"{scorer.name if scorer else ''}: {answer.reason}")
    coins = {mention.coin: mention.confidence for mention in Linker().find(whole)}
    if as_json:
        found = None if answer is None else {"score": answer.score, "confidence": answer.confidence, **answer.detail}
        print_json({"language": language, "coins": coins, "scorer": scorer.name if scorer else None, "answer": found})
        return
    typer.echo(f"language   {language}")
    typer.echo(f"coins      {', '.join(f'{coin} ({sure:.0%})' for coin, sure in coins.items()) or 'none'}")
    if answer is None:
        typer.echo("score      none: set TRADING_SENTIMENT__MULTILINGUAL__MODEL for other languages than English")
        return
    typer.echo(
        f"score      {answer.score:+.2f}, confidence {answer.confidence:.0%}, by {scorer.name if scorer else ''}"
    )
    for name, value in answer.detail.items():
        typer.echo(f"{name:<10} {value}")


@app.command("update")
def update(
    start: Annotated[str | None, typer.Option("--from", help="Compute this time anew, UTC.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End of it. [default: now]")] = None,
    as_json: Json = False,
) -> None:
    """Read and score the texts that are new, and bring the sentiment up to date; can be repeated at will.

    After recorded texts were loaded, name the time that they are of.
    """
    from dataclasses import asdict
    from datetime import UTC, datetime

    from trading_pipelines.application.alternative.sentiment import open_readers, update_sentiment
    from trading_pipelines.domain.market.instrument import split_symbol
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare()
    now = datetime.now(UTC)
    since, until = moment(start, "--from") if start else None, moment(end, "--to") if end else None
    if until is not None and since is None:
        raise UserError("--to: needs --from")
    if since is not None:
        span(since, until or now)
    readers = open_readers(settings.sentiment)
    with ready_database(settings) as url, connect(url, application_name="sentiment") as connection:
        report = update_sentiment(
            connection,
            readers,
            now,
            simulated=settings.exchange == "simulated",
            coins=[split_symbol(symbol)[0] for symbol in settings.symbols],
            start=since,
            end=until,
            spec=settings.sentiment.aggregation,
            alerts=settings.sentiment.alerts,
        )
    if as_json:
        print_json({**asdict(report), "scorers": list(readers.names)})
    else:
        typer.echo(
            f"read {report.read:,} texts ({report.repeated:,} repetitions), scored {report.scored:,} by "
            f"{' and '.join(readers.names)}, put {report.refused:,} aside; {report.stored:,} new values, "
            f"{report.turns} turns"
        )


def _value(value: Any) -> Any:
    """Times as Python's, and nothing for what is missing."""
    if value != value:
        return None
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value
