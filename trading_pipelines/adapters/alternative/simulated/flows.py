"""Large transactions and flows of exchanges of the simulated market as sources.

Belongs here: what of them is known by when. Does not belong here: what they are made of (`domain.simulation.flows`).
"""

from datetime import datetime

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.domain.onchain.transactions import ExchangeFlow, FlowThresholds, WhaleTransaction
from trading_pipelines.domain.simulation.flows import FLOW_LAG, HOUR, TRANSACTION_LAG, SimulatedFlows
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec


class SimulatedTransactions:
    """Large transactions; the whole history is always there."""

    name = "simulated_whale_transactions"

    def __init__(self, spec: SimulatedMarketSpec, thresholds: FlowThresholds) -> None:
        self._flows = SimulatedFlows(SimulatedMarket(spec))
        self._thresholds = thresholds

    def fetch(self, since: datetime, until: datetime) -> Delivery[WhaleTransaction]:
        """Transactions of (since, until] that are known by then and large enough."""
        found = self._flows.transactions(since - TRANSACTION_LAG - HOUR, until)
        return Delivery(
            tuple(
                row
                for row in found
                if since < row.available_at <= until and row.amount_usd > self._thresholds.minimum_usd(row.coin)
            )
        )


class SimulatedExchangeFlows:
    """Hourly flows of the exchanges."""

    name = "simulated_exchange_flows"

    def __init__(self, spec: SimulatedMarketSpec) -> None:
        self._flows = SimulatedFlows(SimulatedMarket(spec))

    def fetch(self, since: datetime, until: datetime) -> Delivery[ExchangeFlow]:
        """Flows that became known in (since, until]."""
        found = self._flows.flows(since - FLOW_LAG - 2 * HOUR, until)
        return Delivery(tuple(row for row in found if since < row.available_at <= until))
