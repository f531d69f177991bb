"""Orders, and what the exchange reports of them.

Belongs here: the tables that the order path fills. They have no partitions: what was sent cannot be sent
again. Does not belong here: the fast service, which keeps fills and positions up to date between two runs.
"""

from collections.abc import Iterator

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.sessions import for_each_session
from trading_pipelines.defs.tables import table_rows, table_spec
from trading_pipelines.domain.execution.session import TradingSession
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
) -> Iterator[dg.MaterializeResult]:
    """Execute the active signals of every live session; a repeated call sends nothing twice.

    Fails where the exchange does not answer, so that the sensor asks for another run.
    """
    from trading_pipelines.application.trading.execution import ExecutionReport, execute_signals
    from trading_pipelines.application.trading.kill_switch import KillSwitch
    from trading_pipelines.store.repositories import instruments

    now = clock.now()
    with user_errors(), database.connect() as connection:
        kill = KillSwitch(settings().data_dir, database.connect)
        market = source.open()

        def execute(session: TradingSession) -> ExecutionReport:
            stored = instruments.by_symbol(connection, session.exchange)
            report = execute_signals(
                connection,
                session,
                exchange.open(connection, session),
                now,
                quotes={
                    stored[ticker.symbol].instrument_id: ticker.price for ticker in market.tickers(session.symbols)
                },
                kill=kill,
                run_id=context.run.run_id,
            )
            if report.blocked:
                raise dg.Failure(report.blocked)
            return report

        outcomes = for_each_session(context.log, connection, execute)
        metadata = {
            f"{session}: {name}": [str(signal) for signal in found]
            for session, report in outcomes.done.items()
            for name, found in vars(report).items()
            if found
        }
        context.log.info("signals: %s", metadata)
        yield dg.MaterializeResult(asset_key="orders", metadata={**metadata, **table_rows(connection, "orders")})
        outcomes.raise_failures()


@dg.multi_asset(name="synchronise", specs=[FILLS, POSITIONS])
def synchronisation(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource, exchange: ExchangeResource
) -> Iterator[dg.MaterializeResult]:
    """Take over what happened on the exchange since the last time, for every live session."""
    from trading_pipelines.application.trading.execution import synchronise

    now = clock.now()
    with user_errors(), database.connect() as connection:
        outcomes = for_each_session(
            context.log,
            connection,
            lambda session: synchronise(connection, session, exchange.open(connection, session), now),
        )
        reports = outcomes.done.values()
        yield dg.MaterializeResult(
            asset_key="fills",
            metadata={"new": sum(report.fills for report in reports), **table_rows(connection, "fills")},
        )
        yield dg.MaterializeResult(
            asset_key="positions",
            metadata={
                "opened": sum(len(report.opened) for report in reports),
                "closed": sum(len(report.closed) for report in reports),
                **table_rows(connection, "positions"),
            },
        )
        outcomes.raise_failures()
