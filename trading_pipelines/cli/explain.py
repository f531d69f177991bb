"""`trading explain`: from an order back to its raw rows, and from a raw row or a model forward to results.

Belongs here: reading the question from the command line. Does not belong here: what is read
(`application.audit.lineage`, `application.audit.lineage_sources`) and drawing the answer (`cli.explain_tree`).
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import Exchange, Json, check_timeframe, moment, prepare
from trading_pipelines.cli.output import print_json
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.application.audit.lineage import Explanation
    from trading_pipelines.settings import Settings
    from trading_pipelines.store.connection import Connection


def explain(
    what: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="An order, signal, position or fill; the beginning of its id is enough."),
    ] = None,
    candle: Annotated[
        tuple[str, str, str] | None,
        typer.Option(metavar="SYMBOL TIMEFRAME TIME", help="What came of a candle, by the time of its open."),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="ID", help="What came of a model version.")] = None,
    signal: Annotated[str | None, typer.Option(metavar="ID", help="What became of a signal.")] = None,
    observation: Annotated[
        tuple[str, str, str] | None,
        typer.Option(metavar="SERIES COIN TIME", help="What came of a value, such as: fear_greed MARKET 2025-05-30."),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="NUMBER", help="What came of a news item or post.")] = None,
    exchange: Exchange = None,
    verify: Annotated[bool, typer.Option(help="Recompute the features that the decision read.")] = False,
    as_json: Json = False,
) -> None:
    """Walk from an order back to its signal and all that it was made of, or from raw rows forward to results."""
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    questions = {"candle": candle, "model": model, "signal": signal, "observation": observation, "text": text}
    asked = [(kind, given) for kind, given in {"trade": what, **questions}.items() if given is not None]
    if len(asked) != 1:
        raise UserError(
            "explain one thing: an ID, --candle SYMBOL TIMEFRAME TIME, --model ID, --signal ID, "
            "--observation SERIES COIN TIME or --text NUMBER"
        )
    settings = prepare(exchange=exchange)
    with ready_database(settings) as url, connect(url, application_name="explain") as connection:
        found = _ask(connection, settings, *asked[0], verify=verify)
    if as_json:
        print_json({"kind": found.kind, "id": found.id, **found.content})
    else:
        from trading_pipelines.cli.explain_tree import show

        show(found)


def _ask(connection: "Connection", settings: "Settings", kind: str, given: Any, *, verify: bool) -> "Explanation":
    from trading_pipelines.application.audit import lineage, lineage_sources
    from trading_pipelines.domain.market.timeframe import Timeframe

    texts = settings.sentiment.aggregation
    match kind:
        case "candle":
            symbol, timeframe, at = given
            frame = Timeframe(check_timeframe(timeframe))
            return lineage.explain_candle(connection, settings.exchange, symbol.upper(), frame, moment(at, "--candle"))
        case "model":
            return lineage.explain_model(connection, given)
        case "signal":
            return lineage.explain_signal(connection, given)
        case "observation":
            series, coin, at = given
            ts = moment(at, "--observation")
            return lineage_sources.explain_observation(connection, settings.exchange, series, coin.upper(), ts, texts)
        case "text":
            return lineage_sources.explain_text(connection, settings.exchange, given, texts)
        case _:
            return lineage.explain_trade(connection, given, texts, verify=verify)
