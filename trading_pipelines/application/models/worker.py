"""The program of a helper: takes tasks of the trainings that it is told of, until its standard input closes.

`application.models.tasks.Helpers` starts it; nobody else needs to. The first line is the database's address as JSON,
every further one the key of a training.
"""

import json
import queue
import signal
import sys
import threading
import time

from trading_pipelines.application.models.tasks import POLL_S, is_complete, run_one
from trading_pipelines.application.models.training import read_shared_training
from trading_pipelines.store.connection import Connection, connect


class Orders:
    """What the other end says, read beside the work."""

    def __init__(self) -> None:
        self.keys: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.closed = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self.keys.put(line.strip())
        self.closed.set()
        self.keys.put(None)


def main() -> None:
    """Work until told otherwise; an interrupt of the terminal is left to the process that started us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    url = json.loads(sys.stdin.readline())["url"]
    orders = Orders()
    with connect(url, application_name="training helper") as connection:
        while (key := orders.keys.get()) is not None:
            take_part(connection, key, orders)


def take_part(connection: Connection, training_key: str, orders: Orders) -> None:
    """Take tasks of one training until none is left or nobody waits for us."""
    shared = read_shared_training(connection, training_key)
    connection.rollback()
    if shared is None:
        sys.stderr.write("a helper sees other candles or another version of the program: it does not take part\n")
        return
    while not orders.closed.is_set():
        if run_one(connection, *shared) is None:
            if is_complete(connection, training_key):
                connection.rollback()
                return
            connection.rollback()
            time.sleep(POLL_S)


if __name__ == "__main__":
    main()
