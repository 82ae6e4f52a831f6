"""Invalid settings are refused by name before any request, and no secret is shown."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_arroyo.client.settings import ClientSettings, shown_address
from airflow_provider_arroyo.exceptions import ArroyoSettingsError

MALFORMED_HOSTS = [
    *("arroyo..example.com", ".example.com", ".", "arroyo.example.com..", f"{'a' * 64}.example.com"),
    ".".join(["a" * 49] * 6),
]


@pytest.mark.parametrize(
    "given, named",
    [
        ({"base_url": "localhost:5115"}, "base_url"),
        ({"base_url": "ftp://localhost"}, "base_url"),
        ({"base_url": "http://localhost/"}, "base_url"),
        ({"base_url": "http://someone:pa55word@localhost"}, "base_url"),
        ({"base_url": "http://localhost?key=pa55word"}, "base_url"),
        ({"base_url": "someone:pa55word@localhost"}, "base_url"),
        ({"base_url": "http://localhost:99999"}, "base_url"),
        ({"base_url": "http://localhost:port"}, "base_url"),
        ({"base_url": "http://[::1"}, "base_url"),
        *(({"base_url": f"http://{host}:5115"}, "base_url") for host in MALFORMED_HOSTS),
        ({"console_url": "http://arroyo..example.com"}, "console_url"),
        ({"proxies": {"http": "http://x:pa55word@proxy..example.com:3128"}}, "proxies"),
        ({"base_url": "ftp://localhost/pa55word"}, "base_url"),
        ({"base_url": "http://localhost:99999/pa55word"}, "base_url"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": "pa55word\n"}, "api_key"),
        ({"api_key": " pa55word"}, "api_key"),
        ({"api_key": "pa55\r\nX-Admin: word"}, "api_key"),
        ({"api_key": "pa55wörd"}, "api_key"),
        ({"headers": {"X Y": "pa55word"}}, "headers"),
        ({"headers": {"X-Y": "pa55word\n"}}, "X-Y"),
        ({"proxies": {"ftp": "http://x:pa55word@localhost"}}, "ftp"),
        ({"proxies": {"http://x:pa55word@localhost": ""}}, "got 'http://…'"),
        ({"proxies": {"http": "socks5://x:pa55word@localhost"}}, "proxies"),
        ({"proxies": {"http": "localhost:3128"}}, "proxies"),
        ({"proxies": {"http": "http://x:pa55word@localhost:99999"}}, "proxies"),
        ({"connect_timeout_seconds": 0}, "connect_timeout_seconds"),
        ({"read_timeout_seconds": -1}, "read_timeout_seconds"),
        ({"client_key": "/tmp/key.pem"}, "client_key"),
        (
            {"headers": {"X-Gate": "x"}, "secret_headers": ("X-Gate", "X-Gaet")},
            "number 2 is not one of them: X-Gate",
        ),
        ({"headers": {"X-Gate": "x"}, "secret_headers": ("pa55word",)}, "secret_headers must be names"),
        ({"headers": {"Authorization: Bearer pa55word": "x"}}, "headers: 'Authorization'…"),
        ({"headers": {"Accept": "text/html"}}, r"Only 'application/json', '\*/\*' may be"),
        ({"headers": {"Accept-Encoding": "gzip, deflate, br"}}, "Only 'gzip', 'deflate', 'identity' may be"),
        ({"headers": {"Connection": "keep-alive, Authorization"}}, "Only 'keep-alive', 'close' may be"),
        ({"headers": {"Cache-Control": "max-stale=600"}}, "'max-age=0' may be"),
        ({"headers": {"Content-Type": "text/plain"}}, "'application/json'"),
        (
            {"client_cert": "/c.pem", "client_key": "-----BEGIN PRIVATE KEY-----pa55word"},
            "client_key must be the path",
        ),
        ({"client_cert": "-----BEGIN CERTIFICATE-----\npa55word"}, "client_cert must be the path"),
        ({"ca_cert": "pa55\nword"}, "ca_cert must be the path"),
    ],
)
def test_bad_setting_is_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        ClientSettings(**given)
    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "arroyo.example.com",
            "arroyo.example.com.",
            "arroyo_api",
            "10.0.0.7",
            "arroyo.größe.example",
        ),
        *("[::1]", "[2001:db8:1234:5678:9abc:def0:1234:5678]", "[fe80::1%25eth0]", f"{'a' * 63}.example"),
    ],
)
def test_hosts_that_can_exist_are_accepted(host: str) -> None:
    assert ClientSettings(base_url=f"http://{host}:5115").base_url == f"http://{host}:5115"


@pytest.mark.parametrize(
    "name, why",
    [
        *((name, "which the client does itself") for name in (
            "Transfer-Encoding", "Content-Length", "content-length", "Connection", "Keep-Alive", "TE", "Trailer",
            "Upgrade", "Expect", "Proxy-Connection", "Content-Type", "Content-Encoding", "Accept", "ACCEPT-ENCODING",
            "Cache-Control", "Content-MD5", "Transfer_Encoding",
        )),
        *((name, "the response would be incomplete") for name in ("Range", "If-None-Match", "If-Modified-Since")),
        *((name, "a different one") for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method")),
        ("Proxy-Authorization", "the proxy's address, in proxies"),
        ("Host", "set host to that name"),
    ],
)  # fmt: skip
def test_a_header_that_would_break_requests_is_refused(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"headers: '{name}' must not be set: .*{why}") as caught:
        ClientSettings(headers={"X-Ok": "1", name: "pa55word"})
    assert "pa55" not in str(caught.value)


def test_headers_of_gateways_may_be_set() -> None:
    headers = {
        # These are pasted along with others; the client sets them itself.
        "Accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "Content-Type": "Application/JSON; charset=UTF-8",
        "Cache-Control": "no-cache, no-store, max-age=0",
        "Connection": "close",
        "Pragma": "no-cache",
        "Authorization": "Basic eA==",
        "Cookie": "sid=1",
        "X-Forwarded-Host": "arroyo.example",
        "Forwarded": "proto=https",
        "CF-Access-Client-Id": "x",
        "User-Agent": "curl/8",
        "Accept-Language": "en",
        "traceparent": "00-1-1-01",
        "Origin": "https://airflow.example",
    }
    assert ClientSettings(headers=headers).request_headers == headers


def test_a_repeated_header_is_refused() -> None:
    with pytest.raises(ValueError, match="headers: a name occurs twice"):
        ClientSettings(headers={"X-Org": "a", "x-org": "b"})


# -- secrets in the address ----------------------------------------------------------------------------------------

TOKEN = "T0kenOfALot1234567"
GATE = f"https://gate.example/t/{TOKEN}/arroyo"


@pytest.mark.parametrize(
    "base_url, shown",
    [
        ("http://arroyo:5115", "http://arroyo:5115"),
        ("https://gate.example/arroyo/production", "https://gate.example/arroyo/production"),
        (GATE, "https://gate.example/t/***/arroyo"),
        ("https://gate.example/token/abcdefgh/arroyo", "https://gate.example/token/***/arroyo"),
        *(
            (f"https://gate.example/{path}", f"https://gate.example/{path}")
            for path in (
                "0b5cf7c8-3d3b-4a4e-9d55-0a0b5cf7c83d",
                "streamingProductionEU/arroyo",
                "key/arroyo",
                "team-42/arroyo",
            )
        ),
    ],
)
def test_a_secret_in_the_path_of_the_address_is_not_shown(base_url: str, shown: str) -> None:
    settings = ClientSettings(base_url=base_url)
    assert settings.shown_url == shown
    assert settings.api_url == f"{base_url}/api/v1"
    assert repr(settings) == f"ClientSettings(base_url={shown!r})"
    assert settings.server.partition("#")[0] == shown
    assert ("#" in settings.server) is (shown != base_url)
    assert settings.pipeline_console_url("pl_1") == f"{shown}/pipelines/pl_1"
    assert settings.redact(f"GET {base_url}/api/v1/jobs") == f"GET {shown}/api/v1/jobs"
    assert bool(settings.secrets) is (shown != base_url)


@pytest.mark.parametrize(
    "address, shown",
    [
        ("ftp://arroyo.example", "ftp://arroyo.example"),
        ("arroyo.example:99999", "arroyo.example:99999"),
        ("http://[::1", "http://[::1"),
        ("http://arroyo.example:pa55word", "http://arroyo.example:…"),
        ("http://arroyo.example/pa55word", "http://arroyo.example…"),
        ("http://arroyo.example?token=pa55word", "http://arroyo.example…"),
        ("arroyo.example;token=pa55word", "arroyo.example…"),
        ("http://user:pa55word@arroyo.example", "http://…"),
        ("pa55word@arroyo.example", "…"),
        ("http://arroyo.example/?a=b@pa55word", "http://…"),
        ("arroyo.example pa55word", "arroyo.example…"),
    ],
)
def test_an_invalid_address_is_shown_without_secrets(address: str, shown: str) -> None:
    assert shown_address(address) == repr(shown)


def test_file_contents_instead_of_a_path_are_not_shown() -> None:
    settings = ClientSettings(client_cert="pa55word/" * 40)
    with pytest.raises(
        ArroyoSettingsError, match="client_cert: cannot read a path of 360 characters"
    ) as caught:
        settings.check_files()
    assert "pa55" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    settings = ClientSettings(
        api_key="s3cret", headers={"X-Token": "s3cret-too"}, proxies={"http": "http://x:s3cret@localhost"}
    )
    assert "s3cret" not in repr(settings)
    assert settings.redact("a s3cret b s3cret-too") == "a *** b ***"


# -- what is masked ------------------------------------------------------------------------------------------------

PARSER = "Expected: ), found: https at Line: 1, Column: 15"


@pytest.mark.parametrize(
    "headers, secret_headers, text, shown",
    [
        # Only headers whose names suggest a secret, and no short values.
        ({"X-Scope-OrgID": "1"}, (), PARSER, PARSER),
        ({"X-Forwarded-Proto": "https"}, (), PARSER, PARSER),
        ({"X-Tenant": "production"}, (), "in production", "in production"),
        ({"X-Auth-Version": "1"}, (), PARSER, PARSER),
        ({"X-Auth-Kind": "Expected"}, (), PARSER, "***: ), found: https at Line: 1, Column: 15"),
        ({"X-Api-Key": "12345678"}, (), "is 12345678", "is ***"),
        ({"x-amz-security-TOKEN": "12345678"}, (), "is 12345678", "is ***"),
        ({"CF-Access-Client-Secret": "12345678"}, (), "is 12345678", "is ***"),
        ({"X-Signature": "12345678"}, (), "is 12345678", "is ***"),
        ({"X-Jwt": "12345678"}, (), "is 12345678", "is ***"),
        ({"X-Api-Pass": "12345678"}, (), "is 12345678", "is ***"),
        ({"X-Credential": "12345678"}, (), "is 12345678", "is ***"),
        ({"X-Password": "1234567"}, (), "is 1234567", "is 1234567"),
        ({"X-Gate": "open-sesame"}, (), "say open-sesame", "say open-sesame"),
        ({"X-Gate": "open-sesame"}, ("x-gate",), "say open-sesame", "say ***"),
        # Parts.
        ({"Authorization": "Bearer abcdefgh"}, (), "who is Bearer abcdefgh, abcdefgh?", "who is Bearer ***, ***?"),
        ({"Authorization": "Bearer short"}, (), "who is Bearer short, short?", "who is ***, short?"),
        ({"Authorization": "Basic dXNlcjpwYTU1d29yZA=="}, (), "pa55word of user:pa55word", "*** of ***"),
        ({"Cookie": "sid=abcdefgh; theme=dark"}, (), "sid=abcdefgh, abcdefgh, dark", "***, ***, dark"),
        # As other programs write them.
        ({"X-Token": "a/b+c d=e"}, (), "a%2Fb%2Bc%20d%3De", "***"),
        ({"X-Token": "abc/def+ghi="}, (), "at abc%2Fdef%2Bghi%3D", "at ***"),
        ({"X-Token": 'abc"def&ghi'}, (), r'{"was": "abc\"def&ghi"}, abc&quot;def&amp;ghi', '{"was": "***"}, ***'),
        ({"X-Token": "abcdefgh"}, (), "YWJjZGVmZ2g= is it", "***= is it"),
    ],
)  # fmt: skip
def test_values_of_headers_are_masked(
    headers: dict[str, str], secret_headers: tuple[str, ...], text: str, shown: str
) -> None:
    assert ClientSettings(headers=headers, secret_headers=secret_headers).redact(text) == shown


@pytest.mark.parametrize(
    "key, text, shown",
    [
        ("abcdefgh", "xabcdefghx", "x***x"),
        ("abcd", "abcd abcde", "*** abcde"),
        ("Line", PARSER, "Expected: ), found: https at ***: 1, Column: 15"),
        ("1", PARSER, PARSER),
        ("1", "who is Bearer 1?", "who is ***?"),
    ],
)
def test_the_key_is_masked(key: str, text: str, shown: str) -> None:
    assert ClientSettings(api_key=key).redact(text) == shown


def test_the_password_of_a_proxy_is_masked() -> None:
    settings = ClientSettings(proxies={"http": "http://user:p%40ssw%C3%B6rd@proxy:3128"})
    text = "p%40ssw%C3%B6rd, p@sswörd, http://user:p%40ssw%C3%B6rd@proxy:3128, http://any:one@else"
    assert settings.redact(text) == "***, ***, http://***@proxy:3128, http://***@else"


def test_a_secret_that_is_part_of_another_is_masked() -> None:
    settings = ClientSettings(api_key="abcdefgh", headers={"X-Key": "abcdefghijkl"})
    assert settings.redact("abcdefghijkl abcdefgh") == "*** ***"


def test_headers_with_credentials_are_recognised_by_name() -> None:
    headers = {"X-Org": "production", "X-Gate": "open-sesame", "X-Token": "abcdefgh"}
    settings = ClientSettings(api_key="k", headers=headers, secret_headers=("X-Gate",))
    assert settings.credentials_headers == "X-Gate, X-Token, Authorization"


@pytest.mark.parametrize(
    "base, url",
    [
        (None, "http://localhost:5115/pipelines/a%2Fb%20c"),
        ("https://console.example/arroyo/", "https://console.example/arroyo/pipelines/a%2Fb%20c"),
    ],
)
def test_the_address_of_a_pipeline_in_the_console(base: str | None, url: str) -> None:
    assert ClientSettings(console_url=base).pipeline_console_url("a/b c") == url
