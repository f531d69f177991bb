"""Tell Dagster what the fast service has written, without ever waiting for it.

Dagster's webserver takes reports about assets that no run materialises; a thread of its own sends them, so a webserver
that is slow, down or not there at all costs the service nothing but the report.

Belongs here: how a report gets there. Does not belong here: what is reported.
"""

import contextlib
import json
import queue
import threading
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

import structlog

TIMEOUT_S = 5.0
WAITING = 20
"""Reports that wait at most; with Dagster away the newer ones are dropped, and the next close brings new ones."""

log = structlog.get_logger(__name__)


class DagsterReports:
    """Reports materialisations to the webserver at `url`; `last_ms` is how long the last one that got through took."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._queue: queue.Queue[tuple[str, Mapping[str, Any]]] = queue.Queue(WAITING)
        self.last_ms: float | None = None
        self._is_reachable = True
        threading.Thread(target=self._run, name="dagster-reports", daemon=True).start()

    def materialised(self, asset: str, metadata: Mapping[str, Any]) -> None:
        """Report that an asset was written; returns at once."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait((asset, metadata))

    def _run(self) -> None:
        while True:
            asset, metadata = self._queue.get()
            started = time.perf_counter()
            try:
                self._send(asset, metadata)
            except (OSError, ValueError) as error:
                if self._is_reachable:
                    log.info("Dagster takes no reports", error=str(error))
                self._is_reachable = False
                continue
            self._is_reachable = True
            self.last_ms = round(1000 * (time.perf_counter() - started), 1)

    def _send(self, asset: str, metadata: Mapping[str, Any]) -> None:
        request = urllib.request.Request(
            f"{self._url}/report_asset_materialization/{asset}",
            data=json.dumps({"metadata": metadata, "description": "reported by the fast service"}).encode(),
            headers={"content-type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            answer.read()
