"""TLS that works, and each way in which it can fail, over real handshakes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoSettingsError,
    ArroyoTlsError,
    ArroyoUnreachableError,
    Disposition,
)
from tests.client.conftest import ONCE, Clock, Connect, server_context, write_client_cert
from tests.client.server import BAD_REQUEST, CLOSE, TLS_ALERT, Server, reply

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


def tls_error(client: ArroyoClient, clock: Clock) -> str:
    """Ping; return the message of the error, which must be fatal and not repeated."""
    with pytest.raises(ArroyoTlsError) as caught:
        client.ping()
    assert caught.value.disposition is Disposition.PERMANENT
    assert caught.value.is_fatal
    assert clock.slept == []
    return str(caught.value)


def test_a_private_authority_is_trusted_if_set(connect: Connect, tls_server: Server, ca_cert: str) -> None:
    tls_server.play(reply("Pong"))
    client = connect(tls_server.url(), ca_cert=ca_cert, api_key="k")
    client.ping()
    client.ping()
    assert tls_server.requests[1].headers["authorization"] == "Bearer k"
    assert tls_server.connections == 1


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_bundle_of_the_environment_is_trusted(
    variable: str, connect: Connect, tls_server: Server, ca_cert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_server.play(reply("Pong"))
    monkeypatch.setenv(variable, ca_cert)
    connect(tls_server.url()).ping()
    monkeypatch.setenv(variable, "/does/not/exist.pem")
    connect(tls_server.url(), ca_cert=ca_cert).ping()
    with pytest.raises(ArroyoSettingsError, match=variable):
        connect(tls_server.url())


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_verify_false_accepts_any_certificate(connect: Connect, serve: Serve, authority: trustme.CA) -> None:
    server = serve(server_context(authority, "another.example"))
    connect(server.url(), verify=False).ping()
    assert len(server.requests) == 1


def test_an_unknown_authority_is_reported(connect: Connect, tls_server: Server, clock: Clock) -> None:
    message = tls_error(connect(tls_server.url()), clock)
    assert "not signed by any of the authorities that this machine trusts" in message
    assert "Set ca_cert" in message


def test_a_wrong_authority_is_named(
    connect: Connect, tls_server: Server, clock: Clock, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    message = tls_error(connect(tls_server.url(), ca_cert=str(other)), clock)
    assert f"not signed by any of the authorities in ca_cert {str(other)!r}" in message


def test_a_certificate_for_another_name_is_reported(
    connect: Connect, serve: Serve, authority: trustme.CA, ca_cert: str, clock: Clock
) -> None:
    server = serve(server_context(authority, "another.example"))
    assert "is for another name" in tls_error(connect(server.url(), ca_cert=ca_cert), clock)
    by_name = connect(server.url(host="localhost"), ca_cert=ca_cert)
    assert "is for another name" in tls_error(by_name, clock)


def test_an_expired_certificate_is_reported(
    connect: Connect, serve: Serve, authority: trustme.CA, ca_cert: str, clock: Clock
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.now(UTC) - timedelta(days=1)
    authority.issue_cert("127.0.0.1", not_after=past).configure_cert(context)
    message = tls_error(connect(serve(context).url(), ca_cert=ca_cert), clock)
    assert "is not valid at this time" in message


@pytest.mark.parametrize("response", [TLS_ALERT, b""], ids=["alert", "closes"])
def test_plain_http_to_a_tls_port_is_reported(
    response: bytes, connect: Connect, tls_server: Server, clock: Clock
) -> None:
    tls_server.play(reply("Pong"))
    tls_server.to_plain = response
    message = tls_error(connect(tls_server.url("http")), clock)
    assert "expects TLS, but plain HTTP was sent. Set the scheme to https" in message


@pytest.mark.parametrize("response", [BAD_REQUEST, b"", None], ids=["refuses", "closes", "hangs"])
def test_tls_to_a_plain_http_port_is_reported(
    response: bytes | None, connect: Connect, server: Server, clock: Clock
) -> None:
    server.play(reply("Pong"))
    server.to_tls = response
    client = connect(server.url("https"), connect_timeout_seconds=1, read_timeout_seconds=1, api_key="k")
    message = tls_error(client, clock)
    assert "does not speak TLS" in message
    assert "Set the scheme to http" in message
    assert all("authorization" not in request.headers for request in server.requests)


def test_plain_text_from_a_tls_port_is_an_outage(connect: Connect, server: Server, clock: Clock) -> None:
    """Many servers respond with 400 in plain text to clients without TLS; their handshake may fail for a while."""
    server.play(reply("The plain HTTP request was sent to HTTPS port", 400, content_type="text/plain"))
    server.to_tls = b""
    with pytest.raises(ArroyoConnectionError) as caught:
        connect(server.url("https"), connect_timeout_seconds=2, limits=ONCE).ping()
    assert type(caught.value) is ArroyoConnectionError, caught.value
    assert caught.value.disposition is not Disposition.PERMANENT


def test_a_certificate_that_expires_after_arroyo_has_responded_is_an_outage(
    connect: Connect, serve: Serve, authority: trustme.CA, ca_cert: str
) -> None:
    """An ingress may show an expired certificate, or a default one, until the next one is there."""
    context = server_context(authority, "127.0.0.1")
    server, valid = serve(context), authority.issue_cert("127.0.0.1")
    client = connect(server.url(), ca_cert=ca_cert, sleep=lambda _: valid.configure_cert(context))
    client.ping()
    client.close()
    past = datetime.now(UTC) - timedelta(days=1)
    authority.issue_cert("127.0.0.1", not_after=past).configure_cert(context)
    with pytest.raises(ArroyoTlsError, match="is not valid at this time") as caught:
        client.with_limits(max_elapsed_seconds=0).ping()
    assert (caught.value.disposition, caught.value.is_fatal) == (Disposition.RETRY, False)
    # Nothing was sent, so even a request that must not be sent twice is repeated.
    client.send(replace(endpoints.ping(), method="POST", is_idempotent=False))
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "text", ["No required SSL certificate was sent", "The plain HTTP request was sent to HTTPS port"]
)
def test_a_gateway_that_asks_for_tls_after_arroyo_has_responded_is_an_outage(
    text: str, client: ArroyoClient, server: Server
) -> None:
    refusal = reply(text, 400, content_type="text/html")
    server.play(reply("Pong"), refusal, refusal, reply("Pong"))
    client.ping()
    client.ping()
    assert len(server.requests) == 4


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
        connect(server.url(), ca_cert=ca_cert, client_cert=cert, client_key=key).ping()
        assert len(server.requests) == 1

    def test_missing(self, connect: Connect, server: Server, ca_cert: str, clock: Clock) -> None:
        message = tls_error(connect(server.url(), ca_cert=ca_cert), clock)
        assert "requires a client certificate, but none was sent" in message
        assert "client_cert" in message

    def test_refused(
        self, connect: Connect, server: Server, ca_cert: str, clock: Clock, tmp_path: Path
    ) -> None:
        cert, key = write_client_cert(trustme.CA(), tmp_path)
        client = connect(server.url(), ca_cert=ca_cert, client_cert=cert, client_key=key)
        message = tls_error(client, clock)
        assert f"refuses the client certificate {cert!r}" in message

    def test_renewed_in_its_file(
        self, connect: Connect, server: Server, authority: trustme.CA, ca_cert: str, tmp_path: Path
    ) -> None:
        cert, key = write_client_cert(trustme.CA(), tmp_path)
        files = {"ca_cert": ca_cert, "client_cert": cert, "client_key": key}
        client = connect(server.url(), **files, sleep=lambda _: write_client_cert(authority, tmp_path))
        client.expect_arroyo()
        client.ping()
        assert len(server.requests) == 1

    def test_loaded_again_with_the_settings(
        self, connect: Connect, server: Server, authority: trustme.CA, ca_cert: str, tmp_path: Path
    ) -> None:
        cert, key = write_client_cert(trustme.CA(), tmp_path)
        client = connect(server.url(), ca_cert=ca_cert, client_cert=cert, client_key=key, limits=ONCE)
        Path(cert).write_text("-----BEGIN CERT")
        # It is just being written.
        client.reload()
        write_client_cert(authority, tmp_path)
        client.reload()
        client.ping()
        client.reload()
        client.ping()
        assert server.connections == 1


def test_server_that_closes_after_the_handshake(
    connect: Connect, tls_server: Server, authority: trustme.CA, ca_cert: str, tmp_path: Path
) -> None:
    """A proxy does this while Arroyo is down, so it is not permanent."""
    tls_server.closes_after_handshake = True
    cert, key = write_client_cert(authority, tmp_path)
    for certificate, likely in (
        ({}, "or it requires a client certificate, but none was sent"),
        ({"client_cert": cert, "client_key": key}, f"or it refuses the client certificate {cert!r}"),
    ):
        with pytest.raises(ArroyoConnectionError, match="either Arroyo is down behind a proxy") as caught:
            connect(tls_server.url(), ca_cert=ca_cert, limits=ONCE, **certificate).ping()
        assert likely in str(caught.value)
        assert type(caught.value) is ArroyoConnectionError
        assert caught.value.disposition is Disposition.RETRY_IF_IDEMPOTENT
    with pytest.raises(ArroyoUnreachableError, match="either Arroyo is down behind a proxy"):
        connect(tls_server.url(), ca_cert=ca_cert).ping()


def test_server_that_closes_on_a_request_but_not_after_the_handshake(
    connect: Connect, tls_server: Server, ca_cert: str, clock: Clock
) -> None:
    tls_server.play(CLOSE, reply("Pong"))
    connect(tls_server.url(), ca_cert=ca_cert).ping()
    assert len(clock.slept) == 1


@pytest.mark.parametrize("name", ["ca_cert", "client_cert", "client_key"])
@pytest.mark.parametrize("wrong", ["missing", "folder", "not PEM"])
def test_an_unusable_file_is_named(
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
        connect(tls_server.url(), **files).ping()
    assert str(path) in str(caught.value)
    assert tls_server.connections == 0


def test_an_encrypted_key_is_refused_without_a_prompt(
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
        connect(tls_server.url(), client_cert=cert, client_key=key).ping()


@contextmanager
def tunnel_to(port: int, greeting: bytes) -> Iterator[str]:
    """Run a proxy that responds to CONNECT with a greeting, then connects to a port of this machine."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += client.recv(65536)
                client.sendall(greeting)
                server = socket.create_connection(("127.0.0.1", port))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nproxy-agent: x\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["plain", "with headers", "early hints"],
)
def test_tls_works_behind_a_proxy(
    greeting: bytes, connect: Connect, tls_server: Server, ca_cert: str
) -> None:
    tls_server.play(reply("Pong"))
    with tunnel_to(tls_server.port, greeting) as proxy:
        client = connect(tls_server.url(), ca_cert=ca_cert, proxies={"https": proxy})
        for _ in range(3):
            client.ping()
        client.close()
    assert (len(tls_server.requests), tls_server.connections) == (3, 1)
