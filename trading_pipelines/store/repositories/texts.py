"""News and posts as they were received; what was read out of them is in `text_scores`."""

from collections.abc import Sequence
from typing import Any

import psycopg

from trading_pipelines.domain.alternative.texts import TextItem

_INSERT = """
insert into texts (source, external_id, kind, title, body, url, author, published_at, available_at)
select source, external_id, kind, title, body, url, author, published_at, available_at
from unnest(%(source)s::text[], %(external_id)s::text[], %(kind)s::text[], %(title)s::text[], %(body)s::text[],
            %(url)s::text[], %(author)s::text[], %(published_at)s::timestamptz[], %(available_at)s::timestamptz[])
    as new (source, external_id, kind, title, body, url, author, published_at, available_at)
order by available_at, published_at, source, external_id
on conflict (source, external_id) do nothing
"""


def add(connection: psycopg.Connection[Any], items: Sequence[TextItem]) -> int:
    """Store texts that are not known yet; returns how many.

    A text keeps the words and the times with which it came first: what a source makes of it later was not known then.
    """
    columns = {name: [getattr(item, name) for item in items] for name in TextItem.__dataclass_fields__}
    return connection.execute(_INSERT, columns).rowcount if items else 0
