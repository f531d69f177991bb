"""The account as the risk rules see it."""

from trading_world import BAR, T0, build_world

from trading_pipelines.application.risk.portfolio import portfolio_view
from trading_pipelines.application.trading.execution import execute_signals, synchronise
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import exits
from trading_pipelines.store.repositories.exits import ExitRow


def test_position_whose_exit_is_decided_counts_as_gone_before_anybody_has_sent_the_exit(
    connection: Connection,
) -> None:
    """Entries of the same close are judged alike whether the fast service or the execution run looks first."""
    world = build_world(connection)
    world.signal()
    execute_signals(connection, world.session, world.exchange, T0, quotes=world.quotes(), kill=None)
    world.bar(0, 100, 100.2, 99.8, 100)
    synchronise(connection, world.session, world.exchange, T0 + BAR)
    bitcoin = world.ids["BTCUSDT"]
    held = portfolio_view(connection, world.session, T0 + BAR)
    assert [exposure.instrument_id for exposure in held.exposures] == [bitcoin]
    assert held.leaving == frozenset()

    ((position_id,),) = world.rows("select position_id from positions")
    row = ExitRow(
        session_id=world.session.session_id,
        position_id=position_id,
        instrument_id=bitcoin,
        timeframe="15m",
        ts=T0,
        strategy="model_signals",
        decided_at=T0 + BAR,
        reason="MODEL_REVERSAL",
        confidence=0.3,
    )
    with connection.cursor() as cursor:
        exits.insert(cursor, [row])
    left = portfolio_view(connection, world.session, T0 + BAR)
    assert left.exposures == ()
    assert left.leaving == frozenset({bitcoin})
    assert left.free_cash == held.free_cash
