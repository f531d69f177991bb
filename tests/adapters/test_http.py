"""The one way out: its bounds hold against a server that does not keep to anything."""

import gzip
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fake_service import Answer, FakeService, as_json, fake_service

from trading_pipelines.adapters.http import HttpClient, HttpPolicy
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.adapters.sources.retry import RetryPolicy


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as service:
        yield service


class Pauses(list[float]):
    """Remembers pauses instead of making them."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client(
    service: FakeService, folder: Path | None = None, pauses: Pauses | None = None, **policy: object
) -> HttpClient:
    bounds = HttpPolicy.model_validate({"interval_seconds": 0, "timeout_seconds": 2, **policy})
    return HttpClient(
        "service", bounds, cache_dir=folder, base_url=service.url, sleep=Pauses() if pauses is None else pauses
    )


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


def test_answer_is_read_as_json_with_query_and_headers_sent(service: FakeService) -> None:
    service.on("/v1/things", as_json({"a": [1]}))
    assert client(service).get_json("/v1/things", {"q": "x y"}, {"X-Key": "k"}) == {"a": [1]}
    (asked,) = service.asked
    assert (asked.query, asked.headers["x-key"]) == ({"q": "x y"}, "k")
    assert asked.headers["user-agent"] == "trading-pipelines"


def test_known_answer_is_asked_for_conditionally_and_kept_across_clients(service: FakeService, tmp_path: Path) -> None:
    service.on(
        "/feed",
        Answer(b"news", headers={"ETag": '"1"', "Last-Modified": "Fri, 25 Sep 2026 16:22:09 GMT"}),
        Answer(status=304),
    )
    first = client(service, tmp_path).get_bytes("/feed")
    second = client(service, tmp_path).get_bytes("/feed")
    assert (first.body, first.unchanged) == (b"news", False)
    assert (second.body, second.unchanged, second.fetched_at) == (b"news", True, first.fetched_at)
    assert service.asked[1].headers["if-none-match"] == '"1"'
    assert service.asked[1].headers["if-modified-since"] == "Fri, 25 Sep 2026 16:22:09 GMT"


def test_changed_answer_replaces_the_known_one(service: FakeService, tmp_path: Path) -> None:
    service.on(
        "/feed", Answer(b"old", headers={"ETag": '"1"'}), Answer(b"new", headers={"ETag": '"2"'}), Answer(status=304)
    )
    asking = client(service, tmp_path)
    assert [asking.get_bytes("/feed").body for _ in range(3)] == [b"old", b"new", b"new"]
    assert service.asked[2].headers["if-none-match"] == '"2"'


def test_fresh_answer_is_given_again_without_asking(service: FakeService, tmp_path: Path) -> None:
    service.on("/a", as_json(1))
    asking = client(service, tmp_path, cache_seconds=60)
    assert [asking.get_json("/a") for _ in range(3)] == [1, 1, 1]
    assert len(service.asked) == 1
    asking.get_json("/a", {"other": "question"})
    assert len(service.asked) == 2


def test_damaged_kept_answer_is_fetched_again(service: FakeService, tmp_path: Path) -> None:
    service.on("/a", Answer(b"1", headers={"ETag": "x"}))
    client(service, tmp_path).get_bytes("/a")
    (kept,) = (tmp_path / "http" / "service").iterdir()
    kept.write_bytes(b"{}\n")
    assert client(service, tmp_path).get_bytes("/a").body == b"1"
    assert "if-none-match" not in service.asked[1].headers


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_failure_that_passes_is_waited_out(service: FakeService, status: int) -> None:
    pauses = Pauses()
    service.on("/a", Answer(status=status), Answer(status=status), as_json("there"))
    assert client(service, pauses=pauses).get_json("/a") == "there"
    assert len(pauses) == 2


def test_pause_that_the_server_asks_for_is_made(service: FakeService) -> None:
    pauses = Pauses()
    service.on("/a", Answer(status=429, headers={"Retry-After": "7"}), as_json(1))
    client(service, pauses=pauses).get_json("/a")
    assert 7 < pauses[0] <= 8


def test_pause_that_is_too_long_is_a_failure_at_once(service: FakeService) -> None:
    service.on("/a", Answer(status=503, headers={"Retry-After": "86400"}))
    with pytest.raises(SourceError, match="not before 86400 s"):
        client(service).get_json("/a")
    assert len(service.asked) == 1


@pytest.mark.parametrize(("status", "advice"), [(401, "check its key"), (403, "check its key"), (404, "404")])
def test_refusal_is_not_asked_again_and_the_message_holds_no_key(
    service: FakeService, status: int, advice: str
) -> None:
    service.on("/a", Answer(b"key sesame is wrong", status=status))
    with pytest.raises(SourceError, match=advice) as raised:
        client(service).get_json("/a", {"api_key": "sesame"}, {"Authorization": "Bearer sesame"})
    assert "sesame" not in str(raised.value)
    assert len(service.asked) == 1


def test_lost_connection_is_tried_again_and_its_message_holds_no_key() -> None:
    with fake_service() as service:
        gone = client(service, retry=RetryPolicy(attempts=2))
    with pytest.raises(SourceError, match="no connection") as raised:
        gone.get_json("/a", {"api_key": "sesame"})
    assert "sesame" not in str(raised.value)


def test_answer_that_breaks_off_is_asked_for_again(service: FakeService) -> None:
    whole = as_json({"a": "b" * 100})
    service.on("/a", Answer(whole.body, cut_after=20), whole)
    assert client(service).get_json("/a") == {"a": "b" * 100}


@pytest.mark.parametrize("packed", [False, True])
def test_answer_without_end_is_cut_off(service: FakeService, packed: bool) -> None:
    body = b"A" * 20_000_000
    service.on("/a", Answer(gzip.compress(body), headers={"Content-Encoding": "gzip"}) if packed else Answer(body))
    with pytest.raises(SourceError, match="longer than 1,000,000 bytes"):
        client(service, max_bytes=1_000_000).get_bytes("/a")
    assert len(service.asked) == 1


def test_answer_that_drips_is_cut_off(service: FakeService) -> None:
    service.on("/a", Answer(b"A" * 10_000, drip_seconds=0.05))
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"longer than 0\.3 s"):
        client(service, total_seconds=0.3).get_bytes("/a")
    assert time.monotonic() - began < 10


def test_redirect_within_the_host_is_followed_and_others_are_refused(service: FakeService) -> None:
    service.on("/old", Answer(status=301, headers={"Location": "/new"}))
    service.on("/new", as_json("here"))
    assert client(service).get_json("/old") == "here"
    for target in ("https://169.254.169.254/latest/meta-data", "http://example.invalid/", "https://example.invalid/"):
        service.on("/away", Answer(status=302, headers={"Location": target}))
        with pytest.raises(SourceError, match=r"not https|not a host that may be asked"):
            client(service).get_json("/away")


def test_redirects_in_a_circle_end(service: FakeService) -> None:
    service.on("/a", Answer(status=302, headers={"Location": "/a"}))
    with pytest.raises(SourceError, match="redirects"):
        client(service).get_json("/a")
    assert len(service.asked) == 4


@pytest.mark.parametrize("address", ["https://example.invalid/a", "file:///etc/passwd", "http://example.invalid/a"])
def test_no_other_host_or_scheme_can_be_asked(service: FakeService, address: str) -> None:
    with pytest.raises(SourceError):
        client(service).get_bytes(address)


def test_plain_http_is_refused_outside_of_this_machine() -> None:
    with pytest.raises(SourceError, match="is not https"):
        HttpClient("x", base_url="http://example.invalid").get_bytes("/a")


@pytest.mark.parametrize(
    "body",
    [b"<html>We will be back soon</html>", b"", b"[" * 200_000, b'{"a": ' + b"9" * 9_000 + b"}", b"\xff\xfe\x00"],
)
def test_body_that_is_not_json_is_a_failure_of_the_source(service: FakeService, body: bytes) -> None:
    service.on("/a", Answer(body))
    with pytest.raises(SourceError, match="not JSON"):
        client(service).get_json("/a")


def test_damaged_compression_is_a_failure_of_the_source(service: FakeService) -> None:
    service.on("/a", Answer(b"not compressed", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(SourceError, match="cannot be decompressed"):
        client(service).get_bytes("/a")


def test_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with fake_service() as service:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        service.wrap(context)
        with pytest.raises(SourceError, match="certificate could not be verified"):
            client(service, retry=RetryPolicy(attempts=1)).get_bytes("/a")


def test_posted_json_is_not_sent_twice_after_a_lost_answer(service: FakeService) -> None:
    service.on("/a", Answer(b'{"a": 1}', cut_after=3))
    with pytest.raises(SourceError):
        client(service).post_json("/a", {"q": 1})
    assert [(asked.method, asked.body) for asked in service.asked] == [("POST", b'{"q": 1}')]


def test_posted_json_that_was_refused_for_now_is_sent_again(service: FakeService) -> None:
    service.on("/a", Answer(status=429), as_json({"ok": True}))
    assert client(service).post_json("/a", {"q": 1}) == {"ok": True}


def test_password_file_of_the_user_is_never_sent(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password sesame\n")
    monkeypatch.setenv("NETRC", str(netrc))
    service.on("/a", as_json(1))
    client(service).get_json("/a")
    assert "authorization" not in service.asked[0].headers


def test_processes_share_the_pace(service: FakeService, tmp_path: Path) -> None:
    pauses = Pauses()
    service.on("/a", as_json(1))
    for _ in range(3):
        client(service, tmp_path, pauses, interval_seconds=50).get_json("/a")
    assert 40 < pauses[0] <= 50
    assert 90 < pauses[1] <= 100
