"""Orders, and what the exchange reports of them.

Belongs here: the tables that the order path fills. They have no partitions: what was sent cannot be sent
again. Does not belong here: the fast service, which keeps fills and positions up to date between two runs.
"""

from collections.abc import Iterator

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.tables import table_rows, table_spec
from trading_pipelines.resources.platform import (
    ClockResource,
    DatabaseResource,
    ExchangeResource,
    SourceResource,
)
from trading_pipelines.settings import settings

OWNER = "team:trading"
ORDERS = table_spec(
    "orders",
    group="execution",
    owner=OWNER,
    description="Every order under its deterministic client id, committed as intent before it is sent.",
    deps=["signals"],
)
FILLS = table_spec(
    "fills",
    group="execution",
    owner=OWNER,
    description="Executions reported by the exchange, with fee, price before slippage and result.",
    deps=["orders"],
)
POSITIONS = table_spec(
    "positions",
    group="portfolio",
    owner=OWNER,
    description="Positions built from fills; an open one is protected by a stop for its whole quantity.",
    deps=["fills"],
)


@dg.multi_asset(name="execute", specs=[ORDERS])
def execution(
    context: dg.AssetExecutionContext,
    clock: ClockResource,
    database: DatabaseResource,
    source: SourceResource,
    exchange: ExchangeResource,
) -> dg.MaterializeResult:
    """Execute the active signals of the live session; a repeated call sends nothing twice.

    Fails where the exchange does not answer, so that the sensor asks for another run.
    """
    from trading_pipelines.application.execution import execute_signals
    from trading_pipelines.application.kill_switch import KillSwitch
    from trading_pipelines.application.sessions import paper_session
    from trading_pipelines.store.repositories import instruments

    with user_errors(), database.connect() as connection:
        session = paper_session(connection, settings())
        ids = {symbol: row.instrument_id for symbol, row in instruments.by_symbol(connection, session.exchange).items()}
        report = execute_signals(
            connection,
            session,
            exchange.open(connection, session),
            clock.now(),
            quotes={ids[ticker.symbol]: ticker.price for ticker in source.open().tickers(session.symbols)},
            kill=KillSwitch(settings().data_dir, database.connect),
            run_id=context.run_id,
        )
        if report.blocked:
            raise dg.Failure(report.blocked)
        outcome = {name: [str(signal) for signal in found] for name, found in vars(report).items() if found}
        context.log.info("signals: %s", outcome)
        return dg.MaterializeResult(asset_key="orders", metadata={**outcome, **table_rows(connection, "orders")})


@dg.multi_asset(name="synchronise", specs=[FILLS, POSITIONS])
def synchronisation(
    clock: ClockResource, database: DatabaseResource, exchange: ExchangeResource
) -> Iterator[dg.MaterializeResult]:
    """Take over what happened on the exchange since the last time."""
    from trading_pipelines.application.execution import synchronise
    from trading_pipelines.application.sessions import paper_session

    with user_errors(), database.connect() as connection:
        session = paper_session(connection, settings())
        report = synchronise(connection, session, exchange.open(connection, session), clock.now())
        yield dg.MaterializeResult(asset_key="fills", metadata={"new": report.fills, **table_rows(connection, "fills")})
        yield dg.MaterializeResult(
            asset_key="positions",
            metadata={
                "opened": len(report.opened),
                "closed": len(report.closed),
                **table_rows(connection, "positions"),
            },
        )
