"""The one way out: every call over HTTP that no client library of an exchange makes.

Belongs here: what holds for every call, whoever makes it: time-outs, a limit on what is read, TLS that is always
verified, hosts that may be asked, the pace, tries after failures, answers that are kept and asked for conditionally.
Does not belong here: what an answer means (`adapters.alternative` and other callers).

What a server sends is never trusted: it is cut off at a size, read within a time, and a redirect leads only to hosts
that were meant. Messages name method, host and path; neither query nor headers, for keys may be in them.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import structlog
import urllib3
from pydantic import BaseModel, Field
from requests.adapters import HTTPAdapter

from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.adapters.sources.limiter import SharedLimiter
from trading_pipelines.adapters.sources.retry import RetryPolicy, retry_after_seconds

USER_AGENT = "trading-pipelines"
_LOCAL = frozenset({"127.0.0.1", "::1"})
SHOWN_CHARACTERS = 2_000
"""How much of something received is kept for people."""
_CHUNK = 1 << 16
_PASSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another try may succeed."""
log = structlog.get_logger(__name__)


class HttpPolicy(BaseModel, frozen=True, extra="forbid"):
    """How far a server is trusted, and how it is treated."""

    timeout_seconds: float = Field(default=10.0, gt=0)
    """For the connection, and for each piece of the answer."""
    total_seconds: float = Field(default=60.0, gt=0)
    """For one whole answer; a server that drips is cut off."""
    max_bytes: int = Field(default=8_000_000, gt=0)
    """Longest answer, after decompression."""
    interval_seconds: float = Field(default=1.0, ge=0)
    """Between two requests of all processes of this machine."""
    cache_seconds: float = Field(default=0.0, ge=0)
    """For how long an answer is given again without asking."""
    max_redirects: int = Field(default=3, ge=0)
    hosts: tuple[str, ...] = ()
    """Hosts besides the one that is asked to which a redirect may lead."""
    retry: RetryPolicy = RetryPolicy(attempts=4, max_delay_seconds=20.0, max_retry_after_seconds=120.0)


_DEFAULT = HttpPolicy()


@dataclass(frozen=True)
class HttpAnswer:
    """What a server answered.

    Attributes
    ----------
    headers : mapping
        Names in lower case.
    unchanged : bool
        The server said that nothing is new (304), or was not asked again; `body` is the one that was kept.
    fetched_at : datetime
        When the body was received, UTC.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    unchanged: bool
    fetched_at: datetime


class ForbiddenAddressError(requests.RequestException):
    """An address outside of what may be asked."""


class AnswerTooLargeError(requests.RequestException):
    """More was sent, or for longer, than is read."""


class NoAnswerError(SourceError):
    """The service gave no answer, after as many tries as the policy has: the next question has little hope too."""


class UnusableAnswerError(SourceError):
    """An answer that says nothing: an error inside of it, or another shape than is documented.

    Attributes
    ----------
    received : str
        How it came, cut to a length that can be looked at.
    """

    def __init__(self, message: str, received: Any = "") -> None:
        super().__init__(message)
        self.received = shown(received)


def shown(received: Any) -> str:
    """Something received as text, cut to a length that can be looked at."""
    if isinstance(received, bytes):
        return received[: 4 * SHOWN_CHARACTERS].decode(errors="replace")[:SHOWN_CHARACTERS]
    if isinstance(received, str):
        return received[:SHOWN_CHARACTERS]
    try:
        return json.dumps(received, default=repr, ensure_ascii=False)[:SHOWN_CHARACTERS]
    except (ValueError, RecursionError):
        return repr(type(received))


def as_json(name: str, answer: HttpAnswer) -> Any:
    """Read the body of an answer as JSON.

    Raises
    ------
    UnusableAnswerError
        It is none.
    """
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise UnusableAnswerError(f"{name}: the answer is not JSON ({_first_line(error)})", answer.body) from error


def bounded_session(policy: HttpPolicy, may_ask: Callable[[str], bool]) -> requests.Session:
    """A session that cannot leave the policy: for `HttpClient`, and for libraries that bring their own client.

    Parameters
    ----------
    may_ask : callable
        Whether a host, in lower case, is meant; asked for each redirect too.
    """
    session = requests.Session()
    session.headers["User-Agent"] = USER_AGENT
    session.headers["Accept-Encoding"] = "gzip, deflate"
    session.max_redirects = policy.max_redirects
    session.auth = lambda request: request  # or a password in ~/.netrc would be sent
    adapter = _BoundedAdapter(policy, may_ask)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class HttpClient:
    """Asks one service.

    Parameters
    ----------
    name : str
        Of the service, in messages, in the names of its kept answers and of its pace.
    cache_dir : Path, optional
        Where answers are kept and processes share the pace; without it nothing is kept and no pace is held.
    base_url : str
        What paths are relative to; only its host may be asked then, and those of the policy.
    """

    def __init__(
        self,
        name: str,
        policy: HttpPolicy = _DEFAULT,
        *,
        cache_dir: Path | None = None,
        base_url: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._policy = policy
        self._base_url = base_url.rstrip("/")
        self._hosts = {host.lower() for host in policy.hosts} | ({_host(base_url)} if base_url else set[str]())
        self._sleep = sleep
        self._session = bounded_session(policy, lambda host: host in self._hosts)
        self._kept = None if cache_dir is None else _KeptAnswers(cache_dir / "http" / name)
        self._limiter = (
            None
            if cache_dir is None
            else SharedLimiter(cache_dir / "limits" / name, policy.interval_seconds, sleep=sleep)
        )

    def get_json(
        self, path_or_url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Read an answer as JSON.

        Raises
        ------
        SourceError
            No answer, or one that is not JSON.
        """
        return as_json(self.name, self.get_bytes(path_or_url, params, headers))

    def get_bytes(
        self, path_or_url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Read an answer; asked again, the server is told which one is known.

        Raises
        ------
        SourceError
            No answer, after as many tries as the policy has.
        """
        url = self._address(path_or_url)
        key = json.dumps([url, dict(sorted((params or {}).items()))])
        kept = None if self._kept is None else self._kept.read(key)
        if kept is not None and datetime.now(UTC).timestamp() - kept.fetched_at.timestamp() < (
            self._policy.cache_seconds
        ):
            return kept
        answer = self._ask("GET", url, params=params, headers={**_validators(kept), **(headers or {})})
        if answer.status == 304 and kept is not None:
            return kept
        if self._kept is not None and (self._policy.cache_seconds or _validators(answer)):
            self._kept.write(key, answer)
        return answer

    def post_json(self, path_or_url: str, payload: Any, headers: Mapping[str, str] | None = None) -> Any:
        """Send JSON and read the answer as JSON; not sent twice unless the server refused the first one.

        Raises
        ------
        SourceError
            No answer, or one that is not JSON.
        """
        return as_json(self.name, self._ask("POST", self._address(path_or_url), headers=headers, json=payload))

    def _address(self, path_or_url: str) -> str:
        if not self._base_url:
            self._hosts.add(_host(path_or_url))
            return path_or_url
        return urljoin(f"{self._base_url}/", path_or_url.lstrip("/")) if "://" not in path_or_url else path_or_url

    def _ask(self, method: str, url: str, **request: Any) -> HttpAnswer:
        what = f"{method} {_address_of(url)}"
        delays = self._policy.retry.delays()
        while True:
            if self._limiter is not None:
                self._limiter.wait()
            try:
                response = self._session.request(method, url, timeout=self._policy.timeout_seconds, **request)
            except (ForbiddenAddressError, AnswerTooLargeError, requests.TooManyRedirects) as error:
                raise SourceError(f"{self.name}: {what}: {_cause(error)}") from error
            except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, OSError) as error:
                if method == "POST" or (delay := next(delays, None)) is None:
                    raise NoAnswerError(f"{self.name} does not answer {what}: {_cause(error)}") from error
                self._pause(what, _cause(error), delay)
                continue
            if response.ok or response.status_code == 304:
                return _answer(response)
            cause = f"{response.status_code} {response.reason or ''}".strip()
            delay = next(delays, None) if response.status_code in _PASSES else None
            asked_for = retry_after_seconds(response.headers, datetime.now(UTC)) or 0.0
            if delay is None or asked_for > self._policy.retry.max_retry_after_seconds:
                kind = NoAnswerError if response.status_code in _PASSES else SourceError
                raise kind(f"{self.name} refuses {what}: {cause}{_advice(response.status_code, asked_for)}")
            if self._limiter is not None and asked_for:
                self._limiter.rest(asked_for)
            self._pause(what, cause, asked_for + delay)

    def _pause(self, what: str, cause: str, seconds: float) -> None:
        log.info("asking again", source=self.name, what=what, seconds=round(seconds, 1), cause=cause)
        self._sleep(seconds)


class _BoundedAdapter(HTTPAdapter):
    """Holds the policy for each single request of a session, redirects included."""

    def __init__(self, policy: HttpPolicy, may_ask: Callable[[str], bool]) -> None:
        super().__init__()
        self._policy = policy
        self._may_ask = may_ask

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        self._refuse_forbidden(request.url or "")
        began = time.monotonic()
        response = super().send(
            request, stream=True, timeout=timeout or self._policy.timeout_seconds, verify=verify or True, cert=cert,
            proxies=proxies,
        )  # fmt: skip
        with response:
            body = bytearray()
            # Not `iter_content`: it waits for a whole piece, and a server that drips would never be noticed.
            while piece := response.raw.read1(_CHUNK, decode_content=True):
                body += piece
                if len(body) > self._policy.max_bytes:
                    raise AnswerTooLargeError(f"the answer is longer than {self._policy.max_bytes:,} bytes")
                if time.monotonic() - began > self._policy.total_seconds:
                    raise AnswerTooLargeError(f"the answer takes longer than {self._policy.total_seconds:g} s")
        # What `requests` itself sets once a body is read; read a second time, it is this one.
        response._content, response._content_consumed = bytes(body), True  # type: ignore[attr-defined]
        return response

    def _refuse_forbidden(self, url: str) -> None:
        scheme, host = urlsplit(url).scheme, _host(url)
        if scheme != "https" and not (scheme == "http" and host in _LOCAL):
            raise ForbiddenAddressError(f"{_address_of(url)} is not https")
        if not self._may_ask(host):
            raise ForbiddenAddressError(f"{host} is not a host that may be asked")


class _KeptAnswers:
    """Answers in files, so that another process and a restart know them; what is old is dropped."""

    _KEEP_SECONDS = 7 * 86_400

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> HttpAnswer | None:
        try:
            head, _, body = self._file(key).read_bytes().partition(b"\n")
            known = json.loads(head)
            fetched_at = datetime.fromisoformat(known["fetched_at"])
            return HttpAnswer(known["status"], known["headers"], body, unchanged=True, fetched_at=fetched_at)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, key: str, answer: HttpAnswer) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._drop_old()
        head = {"status": answer.status, "headers": answer.headers, "fetched_at": answer.fetched_at.isoformat()}
        handle, name = tempfile.mkstemp(dir=self._folder)
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(head).encode() + b"\n" + answer.body)
        Path(name).replace(self._file(key))

    def _file(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def _drop_old(self) -> None:
        oldest = time.time() - self._KEEP_SECONDS
        for file in self._folder.iterdir():
            try:
                if file.stat().st_mtime < oldest:
                    file.unlink(missing_ok=True)
            except FileNotFoundError:
                continue  # another process was faster


def _answer(response: requests.Response) -> HttpAnswer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpAnswer(response.status_code, headers, response.content, unchanged=False, fetched_at=datetime.now(UTC))


def _validators(known: HttpAnswer | None) -> dict[str, str]:
    """Headers that ask for an answer only if it is another one (RFC 9110, section 13.1)."""
    asked = {"If-None-Match": "etag", "If-Modified-Since": "last-modified"}
    found = {} if known is None else known.headers
    return {header: found[name] for header, name in asked.items() if name in found}


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _address_of(url: str) -> str:
    """An address without user, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _advice(status: int, asked_for: float) -> str:
    if status in (401, 403):
        return "; check its key"
    return f", not before {asked_for:.0f} s have passed" if asked_for else ""


def _cause(error: BaseException) -> str:
    """Why, in one line; what `requests` and `urllib3` say of a failure repeats the address with its query."""
    if isinstance(error, ForbiddenAddressError | AnswerTooLargeError | requests.TooManyRedirects):
        return _first_line(error)
    known = {
        requests.exceptions.SSLError: "its certificate could not be verified",
        requests.exceptions.ConnectTimeout: "no connection in time",
        requests.exceptions.ReadTimeout: "no answer in time",
        urllib3.exceptions.ReadTimeoutError: "no answer in time",
        urllib3.exceptions.ProtocolError: "the answer broke off",
        urllib3.exceptions.DecodeError: "the answer cannot be decompressed",
        requests.exceptions.ConnectionError: "no connection",
    }
    return next((text for kind, text in known.items() if isinstance(error, kind)), type(error).__name__)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]
