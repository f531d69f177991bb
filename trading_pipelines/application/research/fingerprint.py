"""The fingerprint of a session: one hash over everything it decided and everything that was filled.

Ids that are drawn anew for each session, run ids and wall-clock times stay out, so that the same input gives the
same fingerprint; the model enters by the hash of its artefact.
"""

import hashlib
from typing import Any
from uuid import UUID

import psycopg

_DECISIONS = """
    select row_to_json(r)::text from (
        select i.symbol, d.timeframe, d.ts, d.strategy, d.decided_at, d.outcome, d.reason, d.side, d.confidence,
               m.artefact_sha256, d.gates, d.setup, d.factors
        from decisions d join instruments i using (instrument_id) left join model_versions m using (model_id)
        where d.session_id = %s order by d.ts, i.symbol, d.strategy) r
"""
_FILLS = """
    select row_to_json(r)::text from (
        select i.symbol, f.ts, f.kind, f.side, f.quantity, f.price, f.fee, f.realised_pnl
        from fills f join instruments i using (instrument_id)
        where f.session_id = %s order by f.ts, i.symbol, f.kind, f.quantity, f.price) r
"""
_FUNDING = """
    select row_to_json(r)::text from (
        select i.symbol, p.ts, p.rate, p.amount
        from funding_payments p join positions q using (position_id) join instruments i using (instrument_id)
        where p.session_id = %s order by p.ts, i.symbol) r
"""


def session_fingerprint(connection: psycopg.Connection[Any], session_id: UUID) -> str:
    """SHA-256 (hex) over all decisions, fills and funding payments of a session, in the order of time."""
    digest = hashlib.sha256()
    for query in (_DECISIONS, _FILLS, _FUNDING):
        for (line,) in connection.cursor().stream(query, (session_id,)):
            digest.update(line.encode())
            digest.update(b"\n")
    return digest.hexdigest()
