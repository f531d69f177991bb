"""A web service on 127.0.0.1 that gives prepared answers and remembers what it was asked."""

import json
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; names of headers in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What is sent; `drip_seconds` is the pause between bytes of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    drip_seconds: float = 0.0
    cut_after: int | None = None


Reply = Answer | Callable[[Asked], Answer]


def as_json(content: Any, **headers: str) -> Answer:
    """An answer that is JSON."""
    return Answer(json.dumps(content).encode(), headers={"Content-Type": "application/json", **headers})


class FakeService:
    """Answers by path: those that are queued one by one, the last one again and again."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._scheme = "http"
        self._replies: dict[str, deque[Reply]] = defaultdict(deque)
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service._answer(self)

            def do_POST(self) -> None:
                service._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are recorded, not printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on; who does not like the certificate goes away, which is nothing to tell of."""
        self._scheme = "https"
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, path: str, *replies: Reply) -> None:
        """Answer requests to `path` so from now on."""
        self._replies[path] = deque(replies)

    def paths(self) -> list[str]:
        return [request.path for request in self.asked]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(handler.command, url.path, dict(parse_qsl(url.query)), headers, handler.rfile.read(length))
        self.asked.append(asked)
        replies = self._replies[url.path]
        reply = Answer(b"no such page", 404) if not replies else replies.popleft() if len(replies) > 1 else replies[0]
        answer = reply if isinstance(reply, Answer) else reply(asked)
        try:
            self._send(handler, answer)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True  # the client had enough

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        handler.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        body = answer.body if answer.cut_after is None else answer.body[: answer.cut_after]
        if answer.drip_seconds:
            for place in range(len(body)):
                handler.wfile.write(body[place : place + 1])
                handler.wfile.flush()
                time.sleep(answer.drip_seconds)
        else:
            handler.wfile.write(body)
        handler.close_connection = handler.close_connection or answer.cut_after is not None


@contextmanager
def fake_service() -> Iterator[FakeService]:
    """A service for the length of a block."""
    service = FakeService()
    try:
        yield service
    finally:
        service.stop()
