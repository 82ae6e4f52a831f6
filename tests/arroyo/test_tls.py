"""TLS that works, and each way in which it does not, over real handshakes, the same from both clients."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.retry import RetryPolicy
from airflow_provider_arroyo.exceptions import ArroyoConnectionError, ArroyoSettingsError, ArroyoTlsError
from tests.arroyo.conftest import Clock, Connect, Driver, server_context, write_client_cert
from tests.arroyo.server import BAD_REQUEST, HANG_UP, Server, reply

Serve = Callable[[ssl.SSLContext], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[Server] = []

    def start(context: ssl.SSLContext) -> Server:
        server = Server([reply("Pong")], tls=context).__enter__()
        running.append(server)
        return server

    yield start
    for server in running:
        server.__exit__()


def tls_error(driver: Driver, clock: Clock) -> str:
    with pytest.raises(ArroyoTlsError) as caught:
        driver.call(api.ping())
    error = caught.value
    assert error.is_permanent
    assert not error.is_transient
    assert clock.slept == [], "it was tried again"
    return str(error)


def test_own_authority(connect: Connect, tls_server: Server, ca_cert: str) -> None:
    tls_server.play(reply("Pong"))
    driver = connect(tls_server.url(), ca_cert=ca_cert, api_key="k")
    driver.call(api.ping())
    driver.call(api.ping())
    assert tls_server.requests[1].headers["authorization"] == "Bearer k"
    assert tls_server.connections == 1


def test_bundle_of_the_environment(
    connect: Connect, tls_server: Server, ca_cert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_server.play(reply("Pong"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_cert)
    connect(tls_server.url()).call(api.ping())
    assert len(tls_server.requests) == 1


def test_own_authority_goes_before_the_bundle_of_the_environment(
    connect: Connect, tls_server: Server, ca_cert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_server.play(reply("Pong"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/does/not/exist.pem")
    connect(tls_server.url(), ca_cert=ca_cert).call(api.ping())
    assert len(tls_server.requests) == 1


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_verify_off(connect: Connect, serve: Serve, authority: trustme.CA) -> None:
    server = serve(server_context(authority, "another.example"))
    connect(server.url(), verify=False).call(api.ping())
    assert len(server.requests) == 1


def test_unknown_authority(connect: Connect, tls_server: Server, clock: Clock) -> None:
    message = tls_error(connect(tls_server.url()), clock)
    assert "not signed by any of the authorities that this machine knows" in message
    assert "Set ca_cert" in message


def test_wrong_authority(connect: Connect, tls_server: Server, clock: Clock, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    message = tls_error(connect(tls_server.url(), ca_cert=str(other)), clock)
    assert f"not signed by any of the authorities in ca_cert {str(other)!r}" in message


def test_certificate_for_another_name(
    connect: Connect, serve: Serve, authority: trustme.CA, ca_cert: str, clock: Clock
) -> None:
    server = serve(server_context(authority, "another.example"))
    assert "is for another name" in tls_error(connect(server.url(), ca_cert=ca_cert), clock)
    by_name = connect(server.url(host="localhost"), ca_cert=ca_cert)
    assert "is for another name" in tls_error(by_name, clock)


def test_certificate_that_has_expired(
    connect: Connect, serve: Serve, authority: trustme.CA, ca_cert: str, clock: Clock
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.now(UTC) - timedelta(days=1)
    authority.issue_cert("127.0.0.1", not_after=past).configure_cert(context)
    message = tls_error(connect(serve(context).url(), ca_cert=ca_cert), clock)
    assert "out of its time" in message


def test_plain_http_to_a_port_with_tls(connect: Connect, tls_server: Server, clock: Clock) -> None:
    tls_server.play(reply("Pong"))
    message = tls_error(connect(tls_server.url("http")), clock)
    assert "wants TLS, and plain HTTP was sent" in message
    assert "https" in message
    assert tls_server.connections == 1


def test_plain_http_to_a_port_with_tls_that_hangs_up(
    connect: Connect, tls_server: Server, clock: Clock
) -> None:
    tls_server.play(reply("Pong"))
    tls_server.to_plain = b""
    assert "wants TLS, and plain HTTP was sent" in tls_error(connect(tls_server.url("http")), clock)


@pytest.mark.parametrize("words", [BAD_REQUEST, b"", None], ids=["refuses", "hangs up", "says nothing"])
def test_tls_to_a_plain_port(words: bytes | None, connect: Connect, server: Server, clock: Clock) -> None:
    server.play(reply("Pong"))
    server.to_tls = words
    driver = connect(server.url("https"), connect_timeout_seconds=0.5, read_timeout_seconds=0.5, api_key="k")
    message = tls_error(driver, clock)
    assert "does not speak TLS" in message
    assert "Set the scheme to http" in message
    assert all("authorization" not in request.headers for request in server.requests)


def test_a_port_with_tls_that_answers_in_plain_text_is_no_plain_port(
    connect: Connect, server: Server, clock: Clock
) -> None:
    """Many say 400 in plain text to whoever does not speak TLS; their handshake may break off for a while."""
    server.play(reply("The plain HTTP request was sent to HTTPS port", 400, content_type="text/plain"))
    server.to_tls = b""
    with pytest.raises(ArroyoConnectionError) as caught:
        connect(server.url("https"), connect_timeout_seconds=0.5, read_timeout_seconds=0.5).call(api.ping())
    assert type(caught.value) is ArroyoConnectionError, caught.value
    assert caught.value.is_transient


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
class TestClientCertificates:
    @pytest.fixture
    def server(self, serve: Serve, authority: trustme.CA, version: ssl.TLSVersion) -> Server:
        context = server_context(authority, "127.0.0.1", client_ca=authority)
        context.maximum_version = version
        return serve(context)

    def test_accepted(
        self, connect: Connect, server: Server, authority: trustme.CA, ca_cert: str, tmp_path: Path
    ) -> None:
        cert, key = write_client_cert(authority, tmp_path)
        connect(server.url(), ca_cert=ca_cert, client_cert=cert, client_key=key).call(api.ping())
        assert len(server.requests) == 1

    def test_missing(self, connect: Connect, server: Server, ca_cert: str, clock: Clock) -> None:
        message = tls_error(connect(server.url(), ca_cert=ca_cert), clock)
        assert "wants a client certificate, and none was sent" in message
        assert "client_cert" in message

    def test_refused(
        self, connect: Connect, server: Server, ca_cert: str, clock: Clock, tmp_path: Path
    ) -> None:
        cert, key = write_client_cert(trustme.CA(), tmp_path)
        driver = connect(server.url(), ca_cert=ca_cert, client_cert=cert, client_key=key)
        message = tls_error(driver, clock)
        assert f"refuses the client certificate {cert!r}" in message


def test_server_that_hangs_up_after_the_handshake(
    connect: Connect, tls_server: Server, authority: trustme.CA, ca_cert: str, clock: Clock, tmp_path: Path
) -> None:
    """What only passes calls on does so while Arroyo is away, so that it is no reason to give up for good."""
    tls_server.greets_and_goes = True
    cert, key = write_client_cert(authority, tmp_path)
    for certificate, likely in (
        ({}, "or it wants a client certificate, and none was sent"),
        ({"client_cert": cert, "client_key": key}, f"or it refuses the client certificate {cert!r}"),
    ):
        with pytest.raises(ArroyoConnectionError) as caught:
            connect(tls_server.url(), ca_cert=ca_cert, **certificate).call(api.ping())
        assert "either Arroyo is away behind it" in str(caught.value)
        assert likely in str(caught.value)
        assert caught.value.is_transient
        assert not caught.value.is_permanent
        assert caught.value.was_sent
        assert len(clock.slept) == RetryPolicy().retries
        clock.slept.clear()


def test_server_that_breaks_a_call_but_not_the_handshake_may_be_asked_again(
    connect: Connect, tls_server: Server, ca_cert: str, clock: Clock
) -> None:
    tls_server.play(HANG_UP, reply("Pong"))
    connect(tls_server.url(), ca_cert=ca_cert).call(api.ping())
    assert len(clock.slept) == 1


@pytest.mark.parametrize("name", ["ca_cert", "client_cert", "client_key"])
@pytest.mark.parametrize("wrong", ["missing", "folder", "not PEM"])
def test_file_that_cannot_be_used(
    name: str,
    wrong: str,
    connect: Connect,
    tls_server: Server,
    authority: trustme.CA,
    ca_cert: str,
    tmp_path: Path,
) -> None:
    cert, key = write_client_cert(authority, tmp_path)
    files = {"ca_cert": ca_cert, "client_cert": cert, "client_key": key}
    path = tmp_path / "bad.pem"
    if wrong == "folder":
        path.mkdir()
    elif wrong == "not PEM":
        path.write_text("hello")
    files[name] = str(path)
    with pytest.raises(ArroyoSettingsError, match=name) as caught:
        connect(tls_server.url(), **files).call(api.ping())
    assert str(path) in str(caught.value)
    assert tls_server.connections == 0


def test_key_with_a_password_is_refused_instead_of_asking(
    connect: Connect, tls_server: Server, authority: trustme.CA, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    cert, key = write_client_cert(authority, tmp_path)
    plain = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    Path(key).write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pa55word"),
        )
    )
    with pytest.raises(ArroyoSettingsError, match="client_key: is encrypted"):
        connect(tls_server.url(), client_cert=cert, client_key=key).call(api.ping())
