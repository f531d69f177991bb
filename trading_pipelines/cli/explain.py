"""`trading explain`: from an order back to its raw rows, and from a candle or a model forward to results.

Belongs here: reading the question from the command line and drawing the answer as a tree. Does not belong here: what is
read (`application.lineage`).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import Exchange, Json, check_timeframe, moment, prepare
from trading_pipelines.cli.output import print_json
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from rich.tree import Tree

    from trading_pipelines.application.lineage import Explanation
    from trading_pipelines.settings import Settings
    from trading_pipelines.store.connection import Connection

Row = Mapping[str, Any]


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
    exchange: Exchange = None,
    verify: Annotated[bool, typer.Option(help="Recompute the features that the decision read.")] = False,
    as_json: Json = False,
) -> None:
    """Walk from an order back to signal, gates, model, features and candles, or from raw rows forward to results."""
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    if sum(given is not None for given in (what, candle, model, signal)) != 1:
        raise UserError("explain one thing: an ID, --candle SYMBOL TIMEFRAME TIME, --model ID or --signal ID")
    settings = prepare(exchange=exchange)
    with ready_database(settings) as url, connect(url, application_name="explain") as connection:
        found = _ask(connection, settings, what, candle, model, signal, verify)
    if as_json:
        print_json({"kind": found.kind, "id": found.id, **found.content})
    else:
        _show(found)


def _ask(
    connection: "Connection",
    settings: "Settings",
    what: str | None,
    candle: tuple[str, str, str] | None,
    model: str | None,
    signal: str | None,
    verify: bool,
) -> "Explanation":
    from trading_pipelines.application import lineage
    from trading_pipelines.domain.market.timeframe import Timeframe

    if candle is not None:
        symbol, timeframe, at = candle
        frame = Timeframe(check_timeframe(timeframe))
        return lineage.explain_candle(connection, settings.exchange, symbol.upper(), frame, moment(at, "--candle"))
    if model is not None:
        return lineage.explain_model(connection, model)
    if signal is not None:
        return lineage.explain_signal(connection, signal)
    assert what is not None  # exactly one was given
    return lineage.explain_trade(connection, what, verify=verify)


def _show(found: "Explanation") -> None:
    from rich.console import Console
    from rich.tree import Tree

    tree = Tree(f"{found.kind} {found.id}", highlight=False)
    match found.kind:
        case "candle":
            _draw_candle(tree, found.content)
        case "model":
            _draw_model(tree, found.content)
            _draw_outcome(tree, found.content["outcome"])
        case "signal" if "outcome" not in found.content and "trades" in found.content:
            _draw_outcome(tree, found.content)
        case _:
            _draw_trade(tree, found.content)
    Console(highlight=False, markup=False).print(tree)


def _draw_trade(tree: "Tree", found: Row) -> None:
    session, instrument = found["session"], found["instrument"]
    tree.add(f"session {session['name']} ({session['mode']}, {session['status']}), {instrument['exchange']}")
    _draw_orders(tree, found)
    for position in found["positions"]:
        _draw_position(tree, position, found)
    signal = found["signal"]
    if signal is None:
        tree.add("no signal led to it")
        return
    _draw_signal(tree, found)
    _draw_model_version(tree, found)
    _draw_features(tree, found)
    _draw_candles(tree, found)


def _draw_orders(tree: "Tree", found: Row) -> None:
    orders = tree.add(f"orders ({len(found['orders'])})")
    for order in found["orders"]:
        trigger = f" at {_number(order['trigger_price'])}" if order["trigger_price"] is not None else ""
        reason = f": {order['status_reason']}" if order["status_reason"] else ""
        node = orders.add(
            f"{order['client_order_id']}  {order['leg']} {order['side']} {_number(order['quantity'])}{trigger}  "
            f"{order['status']}{reason}  {_time(order['created_at'])}{_run(order)}"
        )
        for fill in (f for f in found["fills"] if f["client_order_id"] == order["client_order_id"]):
            node.add(
                f"fill {fill['fill_id']}  {fill['kind']} {_number(fill['quantity'])} at {_number(fill['price'])} "
                f"(reference {_number(fill['reference_price'])}, fee {_number(fill['fee'])})  {_time(fill['ts'])}"
            )


def _draw_position(tree: "Tree", position: Row, found: Row) -> None:
    ended = f", closed {_time(position['closed_at'])} by {position['close_reason']}" if position["closed_at"] else ""
    node = tree.add(
        f"position {position['position_id']}  {position['side']} {_number(position['quantity_initial'])} "
        f"entered at {_number(position['entry_price'])}, {position['status']}{ended}"
    )
    node.add(
        f"net {_number(position['net'])} = price {_number(position['realised_pnl'] + position['unrealised_pnl'])} "
        f"- fees {_number(position['fees'])} - funding {_number(position['funding'])}"
    )
    payments = [p for p in found["funding"] if p["position_id"] == position["position_id"]]
    if payments:
        node.add(f"{len(payments)} funding payments, newest {_time(payments[-1]['ts'])}")
    for decision in found["exit_decisions"]:
        if decision["position_id"] == position["position_id"]:
            node.add(f"exit decided at the close of {_time(decision['ts'])}: {decision['reason']}")


def _draw_signal(tree: "Tree", found: Row) -> None:
    signal, decision = found["signal"], found["decision"]
    node = tree.add(
        f"signal {signal['signal_id']}  {signal['strategy']} {signal['side']} of bar {signal['timeframe']} "
        f"{_time(signal['ts'])}, {signal['status']}{_run(signal)}"
    )
    if signal["status_reason"]:
        node.add(f"status: {signal['status_reason']}")
    node.add(
        f"reference {_number(signal['entry_price'])}, stop {_number(signal['stop_price'])}, targets "
        + ", ".join(_number(signal[f"tp{k}_price"]) for k in (1, 2, 3))
    )
    node.add(
        f"confidence {signal['confidence']:.3f}, net {signal['net_profit']:.3%}, R:R {signal['risk_reward']:.2f}, "
        f"expected value {signal['expected_value']:.3%}"
    )
    factors = node.add(f"factors ({len(signal['factors'])})")
    for name, weight in sorted(signal["factors"].items(), key=lambda factor: -abs(factor[1])):
        factors.add(f"{name} {_number(weight)}")
    gates = node.add(f"gates, decided {_time(decision['decided_at'])}: {decision['reason']}{_run(decision)}")
    for gate in decision["gates"]:
        limit = "" if gate["threshold"] is None else f" (asked {_number(gate['threshold'])})"
        gates.add(f"{'passed' if gate['passed'] else 'FAILED'}  {gate['name']} {_number(gate['value'])}{limit}")
    _draw_risk(tree, found)


def _draw_risk(tree: "Tree", found: Row) -> None:
    """What the risk rules said: their stored verdicts, and the events about this trade."""
    node = tree.add(f"risk rules (asked {len(found['risk'])} times, {len(found['events'])} events)")
    for verdict in found["risk"]:
        asked = node.add(
            f"{_time(verdict['assessed_at'])}  {verdict['stage'].lower()}: {verdict['outcome']} "
            f"{_number(verdict['quantity'])}, {verdict['reason']}"
        )
        for rule in verdict["rules"]:
            asked.add("  ".join(f"{name} {_number(value)}" for name, value in rule.items()))
    for event in found["events"]:
        node.add(f"{_time(event['ts'])}  {event['kind']}: {event['message']}")


def _draw_model_version(tree: "Tree", found: Row) -> None:
    model, promotion, prediction = found["model"], found["promotion"], found["prediction"]
    if model is None:
        tree.add("no model: the strategy reads none")
        return
    node = tree.add(f"model {model['model_id']}")
    _add_model_rows(node, model)
    if promotion is not None:
        node.add(f"in production from {_time(promotion['effective_from'])}: {promotion['reason']}")
    if prediction is not None:
        outcome = {None: "not known yet", 0: "lower barrier first", 1: "upper barrier first"}[prediction["outcome"]]
        node.add(
            f"predicted {prediction['side']} with {prediction['confidence']:.4f} "
            f"(probability {prediction['probability']:.4f}); what happened: {outcome}"
        )


def _add_model_rows(node: "Tree", model: Row) -> None:
    node.add(f"artefact sha256 {model['artefact_sha256']}")
    node.add(f"trained on {_time(model['train_from'])} to {_time(model['as_of'])}, code {model['code_version']}")
    metrics = {name: value for name, value in model["metrics"].items() if isinstance(value, int | float)}
    node.add(", ".join(f"{name} {_number(value)}" for name, value in metrics.items()))


def _draw_features(tree: "Tree", found: Row) -> None:
    features = found["features"]
    if features is None:
        tree.add("no stored feature row at this bar")
        return
    factors, meanings = found["signal"]["factors"], found["definitions"] or {}
    node = tree.add(
        f"features set {features['feature_set_id']} ({features['definition_hash'][:12]}), {len(features['values'])} "
        f"values, available {_time(features['available_at'])}"
    )
    for name in sorted(features["values"], key=lambda name: -abs(factors.get(name, 0.0))):
        meaning = meanings.get(name)
        told = f"  {meaning['is']} ({meaning['source']}, {meaning['look_back']} bars)" if meaning else ""
        node.add(f"{name} {_number(features['values'][name])}{told}")
    verified = found.get("verified")
    if verified is not None:
        node.add(f"recomputed today: {'equal' if verified['equal'] else 'DIFFERENT'}, {verified['reason']}")
        for name, values in verified["different"].items():
            node.add(f"{name}: stored {_number(values['stored'])}, recomputed {_number(values['recomputed'])}")


def _draw_candles(tree: "Tree", found: Row) -> None:
    sources = ", ".join(f"{s['source']} {s['timeframe']}" for s in found["sources"]) or "unknown source"
    node = tree.add(f"candles (from {sources})")
    _add_candle(node, found["candle"])
    breadth = found["breadth"]
    if breadth is not None:
        node.add(f"market breadth of {breadth['members']} majors: {_number(breadth['above_ema'])} above their average")
    for window in found["candles"]:
        holes = f", {window['missing_bars']} missing" if window["missing_bars"] else ""
        corrected = f", {window['corrected']} corrected later" if window["corrected"] else ""
        repaired = f", {window['repaired_gaps']} gaps repaired" if window["repaired_gaps"] else ""
        refused = f", {window['quarantined']} rows quarantined" if window["quarantined"] else ""
        node.add(
            f"{window['role']}: {window['candles']} of {window['bars']} {window['symbol']} {window['timeframe']} "
            f"{_time(window['first'])} to {_time(window['last'])}{holes}{corrected}{repaired}{refused}"
        )


def _add_candle(node: "Tree", candle: Row | None) -> None:
    if candle is None:
        node.add("the candle of the decision is not stored")
        return
    prices = ", ".join(f"{name} {_number(candle[name])}" for name in ("open", "high", "low", "close", "volume"))
    node.add(f"bar {_time(candle['ts'])}: {prices}, known at {_time(candle['available_at'])}")


def _draw_candle(tree: "Tree", found: Row) -> None:
    sources = ", ".join(f"{s['source']} {s['timeframe']}" for s in found["sources"]) or "unknown source"
    node = tree.add(f"candle (from {sources})")
    _add_candle(node, found["candle"])
    read = tree.add("read by")
    for reader in found["read_by"]:
        counted = (
            f"{reader['decisions']} decisions of {reader['strategy']}"
            if reader["strategy"]
            else f"{reader['features']} feature rows, {reader['predictions']} predictions"
        )
        read.add(f"{counted}, {reader['timeframe']} bars {_time(reader['first'])} to {_time(reader['last'])}")
    trained = found["trained"]
    tree.add(f"{len(trained)} model versions were trained on it{': ' + ', '.join(trained[-5:]) if trained else ''}")
    _draw_outcome(tree, found["outcome"])


def _draw_model(tree: "Tree", found: Row) -> None:
    node = tree.add(f"{found['symbol']} {found['model']['timeframe']} on {found['exchange']}")
    _add_model_rows(node, found["model"])
    for promotion in found["promotions"]:
        tree.add(f"promoted from {_time(promotion['effective_from'])}: {promotion['reason']}")
    made = found["predictions"]
    share = (
        f", {made['right'] / made['with_outcome']:.1%} of {made['with_outcome']} right" if made["with_outcome"] else ""
    )
    tree.add(f"{made['rows']} predictions, bars {_time(made['first'])} to {_time(made['last'])}{share}")
    decisions = tree.add(f"{sum(found['decisions'].values())} decisions")
    for reason, count in sorted(found["decisions"].items(), key=lambda entry: -entry[1]):
        decisions.add(f"{count} {reason}")


def _draw_outcome(tree: "Tree", outcome: Row) -> None:
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(outcome["by_status"].items()))
    node = tree.add(
        f"{outcome['signals']} signals{f' ({statuses})' if statuses else ''}, {outcome['orders']} orders, "
        f"{outcome['fills']} fills, {outcome['positions']} positions, net {_number(outcome['net'])}"
    )
    for session, net in sorted(outcome["net_by_session"].items()):
        node.add(f"session {session}: net {_number(net)}")
    _add_trades(node, outcome["trades"], outcome["signals"])


def _add_trades(node: "Tree", trades: Sequence[Row], total: int) -> None:
    for trade in trades:
        result = "no position" if trade["net"] is None else f"{trade['position_status']}, net {_number(trade['net'])}"
        node.add(
            f"{trade['signal_id']}  {trade['session']} {trade['symbol']} {trade['strategy']} {trade['side']} "
            f"{_time(trade['ts'])}  {trade['status']}: {result}"
        )
    if total > len(trades):
        node.add(f"and {total - len(trades)} older ones")


def _run(row: Row) -> str:
    return f"  run {row['run_id']}" if row.get("run_id") else ""


def _time(text: str | None) -> str:
    return "never" if text is None else f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}".removesuffix(":00")


def _number(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value:.8g}"
        case str():
            return value
        case Iterable():
            return ", ".join(_number(item) for item in value)
        case _:
            return str(value)
