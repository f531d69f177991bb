"""The answers of `trading explain` as trees in a terminal.

Belongs here: wording and order of what was found. Does not belong here: the question (`cli.explain`) and what is read.
Text from outside is printed as it is stored: plain, without markup and control characters.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from math import isclose, isnan, nan
from typing import Any

from rich.console import Console
from rich.tree import Tree

from trading_pipelines.application.audit.lineage import Explanation
from trading_pipelines.application.trading.manual import STRATEGY as BY_HAND

Row = Mapping[str, Any]


def show(found: Explanation) -> None:
    """Print an answer."""
    tree = Tree(f"{found.kind} {found.id}", highlight=False)
    match found.kind:
        case "candle":
            _draw_candle(tree, found.content)
        case "model":
            _draw_model(tree, found.content)
            _draw_outcome(tree, found.content["outcome"])
        case "signal" if "outcome" not in found.content and "trades" in found.content:
            _draw_outcome(tree, found.content)
        case "observation":
            _draw_observation(tree, found.content)
        case "text":
            _draw_text(tree, found.content)
        case _:
            _draw_trade(tree, found.content)
    Console(highlight=False, markup=False).print(tree)


def _draw_trade(tree: Tree, found: Row) -> None:
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
    if signal["strategy"] == BY_HAND:
        tree.add("a person's decision: no model, no features and no score led to it")
        return
    _draw_model_version(tree, found)
    _draw_features(tree, found)
    _draw_score(tree, found)
    _draw_observations(tree, found)
    _draw_candles(tree, found)


def _draw_orders(tree: Tree, found: Row) -> None:
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


def _draw_position(tree: Tree, position: Row, found: Row) -> None:
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


def _draw_signal(tree: Tree, found: Row) -> None:
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


def _draw_risk(tree: Tree, found: Row) -> None:
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


def _draw_model_version(tree: Tree, found: Row) -> None:
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


def _add_model_rows(node: Tree, model: Row) -> None:
    node.add(f"artefact sha256 {model['artefact_sha256']}")
    node.add(f"trained on {_time(model['train_from'])} to {_time(model['as_of'])}, code {model['code_version']}")
    metrics = {name: value for name, value in model["metrics"].items() if isinstance(value, int | float)}
    node.add(", ".join(f"{name} {_number(value)}" for name, value in metrics.items()))


def _draw_features(tree: Tree, found: Row) -> None:
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


def _draw_score(tree: Tree, found: Row) -> None:
    score = found["score"]
    if score is None:
        return
    node = tree.add(
        f"composite score {_number(_float(score['score']))}, confidence {_number(_float(score['confidence']))}, "
        f"{score['consensus']} of {score['known']} known factors agree"
    )
    decided = found["signal"]["factors"].get("score")
    if decided is not None and not isclose(decided, _float(score["score"]), abs_tol=1e-6):
        node.add(f"made anew since, from other rows: at the decision it was {_number(decided)}")
    for name, factor in score["factors"].items():
        numbers = {key: _float(value) for key, value in factor.items()}
        if isnan(numbers["value"]):
            node.add(f"{name} not known or too old")
        else:
            node.add(
                f"{name} {numbers['value']:+.3f} of weight {numbers['weight']:.3f}: {numbers['contribution']:+.2f} "
                f"points, {numbers['age']:.0f} min old"
            )


def _draw_observations(tree: Tree, found: Row) -> None:
    """What was known besides candles, series by series, with everything that was made of it."""
    by_series: dict[tuple[str, str], list[Row]] = {}
    for entry in found["observations"]:
        by_series.setdefault((entry["series"], entry["coin"]), []).append(entry)
    known = {key: entries for key, entries in by_series.items() if any(entry["rows"] for entry in entries)}
    tree_node = tree.add(f"observations ({len(known)} series, as they were known)" if known else "no observations")
    for (series, coin), entries in known.items():
        node = tree_node.add(f"{series} of {coin}")
        for entry in (entry for entry in entries if entry["rows"]):
            made = f"{entry['read_by']} {entry['name']} {_number(_float(entry['made']))}"
            if entry["rows"] == 1:
                node.add(f"{made} of {_value(entry['newest'])}")
            else:
                node.add(f"{made} of {entry['rows']} values, {_value(entry['oldest'])} to {_value(entry['newest'])}")
        _draw_made_of(node, next(entry["made_of"] for entry in entries if entry["rows"]))
    missing = [f"{series} of {coin}" for series, coin in by_series if (series, coin) not in known]
    if missing and known:
        tree_node.add(f"not known or too old: {', '.join(missing)}")


def _draw_made_of(tree: Tree, made_of: Row | None) -> None:
    if made_of is None:
        return
    value = "" if made_of["value"] is None else f", together {_number(made_of['value'])}"
    node = tree.add(f"the newest came of {made_of['count']} {made_of['kind']}{value}")
    for row in made_of["rows"]:
        node.add(_SOURCE_ROW[made_of["kind"]](row))
    if made_of["count"] > len(made_of["rows"]):
        node.add(f"and {made_of['count'] - len(made_of['rows'])} of less weight")


def _value(row: Row) -> str:
    """One observation: value, source, the time it speaks of, and from when on it was known."""
    return f"{_number(row['value'])} ({row['source']}, {_time(row['ts'])}, known {_time(row['available_at'])})"


def _text_row(row: Row) -> str:
    told = f"{row['score']:+.2f} by {row['scorer']}, weight {row['weight']:.3f}"
    return f"text {row['text_id']}  {_time(row['published_at'])} {row['source']}: {row['title']}  {told}"


def _transaction_row(row: Row) -> str:
    what = f"{row['direction']} {row['amount_usd']:,.0f} USD {row['coin']}"
    return f"{row['transaction_id']}  {_time(row['ts'])} {what} {row['sender']} -> {row['recipient']}"


def _flow_row(row: Row) -> str:
    return (
        f"{row['source']} {_time(row['ts'])}: inflow {row['inflow']:,.0f}, outflow {row['outflow']:,.0f} {row['unit']}"
    )


def _distribution_row(row: Row) -> str:
    above = "-" if row["above_spot"] is None else f"{row['above_spot']:.1%}"
    return (
        f"{row['source']} for {_time(row['expires_at'])} ({row['method'].lower()}, {row['rungs']} markets): "
        f"{above} above {_number(row['spot'])}"
    )


_SOURCE_ROW: Mapping[str, Callable[[Row], str]] = {
    "texts": _text_row,
    "transactions": _transaction_row,
    "flows": _flow_row,
    "distributions": _distribution_row,
}


def _draw_candles(tree: Tree, found: Row) -> None:
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


def _add_candle(node: Tree, candle: Row | None) -> None:
    if candle is None:
        node.add("the candle of the decision is not stored")
        return
    prices = ", ".join(f"{name} {_number(candle[name])}" for name in ("open", "high", "low", "close", "volume"))
    node.add(f"bar {_time(candle['ts'])}: {prices}, known at {_time(candle['available_at'])}")


def _draw_candle(tree: Tree, found: Row) -> None:
    sources = ", ".join(f"{s['source']} {s['timeframe']}" for s in found["sources"]) or "unknown source"
    node = tree.add(f"candle (from {sources})")
    _add_candle(node, found["candle"])
    _draw_readers(tree, found["read_by"])
    trained = found["trained"]
    tree.add(f"{len(trained)} model versions were trained on it{': ' + ', '.join(trained[-5:]) if trained else ''}")
    _draw_outcome(tree, found["outcome"])


def _draw_readers(tree: Tree, readers: Sequence[Row]) -> None:
    node = tree.add("read by" if readers else "read by no feature, score or decision")
    for reader in readers:
        counted = ", ".join(
            f"{reader[name]} {words}"
            for name, words in (
                ("features", "feature rows"),
                ("predictions", "predictions"),
                ("scores", "scores"),
                ("decisions", f"decisions of {reader['strategy']}"),
            )
            if name in reader
        )
        node.add(f"{counted}, {reader['timeframe']} bars {_time(reader['first'])} to {_time(reader['last'])}")


def _draw_observation(tree: Tree, found: Row) -> None:
    series = found["series"]
    node = tree.add(f"{series['is']} ({series['unit']}), {series['coin']}")
    for version in found["versions"]:
        node.add(_value(version))
    _draw_made_of(node, found["made_of"])
    _draw_readers(tree, found["read_by"])
    _draw_outcome(tree, found["outcome"])


def _draw_text(tree: Tree, found: Row) -> None:
    text = found["text"]
    node = tree.add(f"{text['source']}, {_time(text['published_at'])}, known since {_time(text['available_at'])}")
    node.add(text["title"])
    if text["url"]:
        node.add(text["url"])
    if text["duplicate_of"] is not None:
        node.add(f"repeats text {text['duplicate_of']}, which counts in its place")
    for score in found["scores"]:
        told = f"{_number(score['score'])} with confidence {_number(score['confidence'])}"
        node.add(f"{score['scorer']}: {told}, known since {_time(score['available_at'])}")
    for made in found["sentiment"]:
        span = f"{_time(made['first'])} to {_time(made['last'])}"
        tree.add(f"counts in {made['values']} values of the sentiment of {made['coin']}, {span}")
    _draw_readers(tree, found["read_by"])
    _draw_outcome(tree, found["outcome"])


def _draw_model(tree: Tree, found: Row) -> None:
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


def _draw_outcome(tree: Tree, outcome: Row) -> None:
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(outcome["by_status"].items()))
    node = tree.add(
        f"{outcome['signals']} signals{f' ({statuses})' if statuses else ''}, {outcome['orders']} orders, "
        f"{outcome['fills']} fills, {outcome['positions']} positions, net {_number(outcome['net'])}"
    )
    for session, net in sorted(outcome["net_by_session"].items()):
        node.add(f"session {session}: net {_number(net)}")
    _add_trades(node, outcome["trades"], outcome["signals"])


def _add_trades(node: Tree, trades: Sequence[Row], total: int) -> None:
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


def _float(value: object) -> float:
    """A stored number; JSON has no NaN, PostgreSQL writes it as text."""
    return nan if value is None else float(str(value))


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
