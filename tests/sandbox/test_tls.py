"""TLS, with and without certificates of clients."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import trustme
from cryptography.hazmat.primitives import serialization

from airflow_provider_arroyo.sandbox import ArroyoSandbox


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """An authority, a server's and a client's certificate, as files."""
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@example.org")
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key", "client")}
    authority.cert_pem.write_to_path(paths["ca"])
    server.cert_chain_pems[0].write_to_path(paths["cert"])
    server.private_key_pem.write_to_path(paths["key"])
    client.private_key_and_cert_chain_pem.write_to_path(paths["client"])
    return paths


@pytest.fixture
def mutual(files: dict[str, str]) -> Iterator[ArroyoSandbox]:
    """A sandbox that asks clients for certificates."""
    with ArroyoSandbox(tls_cert=files["cert"], tls_key=files["key"], tls_client_ca=files["ca"]) as sandbox:
        yield sandbox


def test_https_with_its_own_authority(files: dict[str, str]) -> None:
    with ArroyoSandbox(tls_cert=files["cert"], tls_key=files["key"]) as sandbox:
        assert sandbox.url.startswith("https://")
        assert requests.get(f"{sandbox.url}/api/v1/ping", verify=files["ca"], timeout=60).json() == "Pong"
        with pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            requests.get(f"{sandbox.url}/api/v1/ping", timeout=60)
        assert sandbox.airflow_connection_uri(ca_cert=files["ca"]).split("?")[0].endswith("/https")


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(files: dict[str, str]) -> None:
    key = serialization.load_pem_private_key(Path(files["key"]).read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    Path(files["key"]).write_bytes(key.private_bytes(*form))
    with pytest.raises(ValueError, match="a key must not be encrypted"):
        ArroyoSandbox(tls_cert=files["cert"], tls_key=files["key"])


def test_plain_http_to_a_tls_port_gets_no_http(files: dict[str, str]) -> None:
    with ArroyoSandbox(tls_cert=files["cert"], tls_key=files["key"]) as sandbox:
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=60) as plain:
            plain.sendall(b"GET /api/v1/ping HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = plain.recv(100)
        assert answer[:1] == b"\x15", "a TLS alert"
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{sandbox.port}/api/v1/ping", timeout=60)


def test_a_client_certificate_is_asked_for(mutual: ArroyoSandbox, files: dict[str, str]) -> None:
    url = f"{mutual.url}/api/v1/ping"
    assert requests.get(url, verify=files["ca"], cert=files["client"], timeout=60).json() == "Pong"
    with pytest.raises(requests.ConnectionError):
        requests.get(url, verify=files["ca"], timeout=60)


def test_without_one_the_handshake_passes_and_the_first_read_is_an_alert(
    mutual: ArroyoSandbox, files: dict[str, str]
) -> None:
    context = ssl.create_default_context(cafile=files["ca"])
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with socket.create_connection(("127.0.0.1", mutual.port), timeout=60) as raw:
        secure = context.wrap_socket(raw, server_hostname="127.0.0.1")
        # What is sent meanwhile does not turn the alert into a reset.
        secure.sendall(b"GET /api/v1/ping HTTP/1.1\r\nhost: x\r\n\r\n")
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            secure.recv(1)


def test_a_connection_ends_as_tls_says_it_should(files: dict[str, str]) -> None:
    with ArroyoSandbox(tls_cert=files["cert"], tls_key=files["key"]) as sandbox:
        context = ssl.create_default_context(cafile=files["ca"])
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=60) as raw:
            secure = context.wrap_socket(raw, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
            secure.sendall(b"GET /api/v1/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"".join(iter(lambda: secure.recv(10_000), b"")).endswith(b'"Pong"')
