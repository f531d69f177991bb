"""The account over time.

Belongs here: tables that the fast service writes at each bar close and reports to Dagster. No run
materialises them: marking and trailing must not depend on Dagster. Does not belong here: fills and
positions, which the order path fills too (`execution/assets.py`).
"""

from datetime import timedelta

from trading_pipelines.defs.tables import table_spec

EQUITY = table_spec(
    "equity",
    group="portfolio",
    owner="team:trading",
    description="The performance curve: cash, bound margin and unrealised result at each bar close.",
    deps=["positions", "fills"],
    fresh_within=timedelta(minutes=45),
)
