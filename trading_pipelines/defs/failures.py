"""What is tried again and what is not.

Belongs here: retry policies and the translation of errors into Dagster's. Does not belong here: alerts
(`operations/sensors.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from trading_pipelines.errors import UserError

TRANSIENT = dg.RetryPolicy(max_retries=2, delay=2.0, backoff=dg.Backoff.EXPONENTIAL)
"""For steps that ask an exchange: a lost connection or a rate limit is over in seconds."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Fail with the message alone, and without another try where only a person can mend the cause."""
    try:
        yield
    except UserError as error:
        from trading_pipelines.adapters.sources.base import SourceError
        from trading_pipelines.store.connection import DatabaseUnreachableError

        passes = isinstance(error, SourceError | DatabaseUnreachableError)
        raise dg.Failure(str(error), allow_retries=passes) from error
