"""How the sources of alternative data are doing, for people.

Belongs here: states and refused items as pages and commands show them. Does not belong here: recording them
(`repositories.source_states`).
"""

from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

_STATES = """
select source, status, detail, last_attempt_at, last_success_at, newest_item_at, consecutive_failures, items,
    quarantined, extract(epoch from now() - last_success_at)::float8 as seconds_since_success,
    extract(epoch from now() - newest_item_at)::float8 as seconds_since_newest
from source_states order by (status = 'OK'), source
"""
_REFUSED = """
select seen_at, source, item, reason, payload from quarantined_items
order by quarantine_id desc limit %(limit)s
"""


def outside_sources(connection: psycopg.Connection[Any]) -> pd.DataFrame:
    """One row per source that was ever asked, those that are not well first."""
    return read_frame(connection, _STATES, {})


def refused_items(connection: psycopg.Connection[Any], limit: int) -> pd.DataFrame:
    """What sources sent and was refused, newest first."""
    return read_frame(connection, _REFUSED, {"limit": limit})
