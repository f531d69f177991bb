"""Risk: what the portfolio's rules say about one more trade, asked by emission and by the order path alike.

Belongs here: bringing what is stored about an account before the rules. Does not belong here: the rules and the sizing
themselves (`domain.risk`), and what becomes of a verdict.
"""

from datetime import datetime
from typing import Any

import psycopg

from trading_pipelines.application.portfolio import portfolio_view
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.risk.rules import Proposal, RiskAssessment, judge


def assess(
    connection: psycopg.Connection[Any], session: TradingSession, proposal: Proposal, as_of: datetime
) -> RiskAssessment:
    """Ask every rule about a trade and size it, by the account as it is stored at `as_of`."""
    return judge(portfolio_view(connection, session, as_of), proposal, session.execution, session.limits)
