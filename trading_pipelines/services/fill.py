"""The first fill as a program of its own: ``python -m trading_pipelines.services.fill``.

Prints its progress as one JSON object per line on standard output; a mistake of the user's is the last line on
standard error, with exit code 2.

Belongs here: the program. Does not belong here: what a fill does (`application.bootstrap`).
"""

import json
import sys
from dataclasses import asdict

import structlog

from trading_pipelines.adapters.sources import open_source
from trading_pipelines.application.bootstrap import FillProgress, first_fill
from trading_pipelines.errors import UserError
from trading_pipelines.logging import configure_logging
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import connect, resolve_url


def main() -> None:
    """Fill the database that the settings name."""
    settings = load_settings()
    configure_logging(settings.log_level, as_json=settings.log_json)
    with connect(resolve_url(settings), application_name="fill") as connection:
        report = first_fill(connection, settings, open_source(settings), _tell)
    structlog.get_logger(__name__).info("fill done", **asdict(report))


def _tell(progress: FillProgress) -> None:
    sys.stdout.write(json.dumps(asdict(progress)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
