"""Every field of a connection, valid and invalid: the error names the field, and never shows a secret."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoSettingsError
from airflow_provider_arroyo.get_provider_info import get_provider_info
from airflow_provider_arroyo.hooks.connection import settings_error, settings_from

EXTRAS = list(get_provider_info()["connection-types"][0]["conn-fields"])
SECRET = "s3cr3t-Ünf"


@dataclass
class Fields:
    conn_id: str = "arroyo_prod"
    conn_type: str | None = "arroyo"
    host: str | None = "arroyo.example"
    port: int | None = None
    schema: str | None = None
    password: str | None = None
    extra: str | None = None


def read(extra: dict[str, Any] | None = None, **fields: Any) -> ClientSettings:
    return settings_from(Fields(**fields, extra=json.dumps(extra) if extra else None))


def test_a_uri_whose_scheme_becomes_the_type_keeps_its_tls() -> None:
    """With AIRFLOW_CONN_…=https://:key@arroyo.example, the key must not be sent in plain text."""
    assert read(conn_type="https", password="k").base_url == "https://arroyo.example:5115"
    assert read(conn_type="https", schema="http").base_url == "http://arroyo.example:5115"
    assert read(conn_type="http").base_url == "http://arroyo.example:5115"


def refuse(extra: dict[str, Any] | None = None, **fields: Any) -> str:
    with pytest.raises(ArroyoSettingsError) as caught:
        read(extra, **fields)
    assert isinstance(caught.value, ValueError)
    assert caught.value.is_fatal
    assert "'arroyo_prod'" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("conn_type", ["postgres", "arroyo_http"])
def test_a_connection_of_another_type_is_refused(conn_type: str) -> None:
    said = refuse(conn_type=conn_type, schema="public")
    assert f"has type '{conn_type}', and must have type 'arroyo'. Set arroyo_conn_id" in said
    for known in (None, "", "generic"):
        assert read(conn_type=known).base_url == "http://arroyo.example:5115"


# -- the address ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host, port, schema, base_url",
    [
        (None, None, None, "http://localhost:5115"),
        ("", None, "", "http://localhost:5115"),
        ("arroyo.example", None, None, "http://arroyo.example:5115"),
        ("  arroyo.example\n", None, None, "http://arroyo.example:5115"),
        ("arroyo.example", 80, None, "http://arroyo.example:80"),
        ("arroyo.example", None, "https", "https://arroyo.example:5115"),
        ("arroyo.example", 443, "HTTPS", "https://arroyo.example:443"),
        ("arroyo.example:6000", None, None, "http://arroyo.example:6000"),
        ("arroyo.example:6000", 6000, "https", "https://arroyo.example:6000"),
        ("10.0.0.7", None, None, "http://10.0.0.7:5115"),
        ("10.0.0.7:80", None, None, "http://10.0.0.7:80"),
        ("::1", None, None, "http://[::1]:5115"),
        ("[::1]", 80, None, "http://[::1]:80"),
        ("[::1]:80", None, None, "http://[::1]:80"),
        ("2001:db8::1", None, "https", "https://[2001:db8::1]:5115"),
        ("http://arroyo.example", None, None, "http://arroyo.example:80"),
        ("https://arroyo.example", None, None, "https://arroyo.example:443"),
        ("https://arroyo.example/", None, "https", "https://arroyo.example:443"),
        ("HTTP://Arroyo.Example", None, None, "http://arroyo.example:80"),
        ("http://arroyo.example", 5115, None, "http://arroyo.example:5115"),
        ("http://arroyo.example:5115", 5115, None, "http://arroyo.example:5115"),
        ("http://[::1]:5115", None, None, "http://[::1]:5115"),
        ("https://gate.example/arroyo", None, None, "https://gate.example:443/arroyo"),
        ("https://gate.example/arroyo/", None, None, "https://gate.example:443/arroyo"),
        ("https://gate.example/arroyo/api/v1", None, None, "https://gate.example:443/arroyo"),
        ("http://arroyo.example:5115/api/v1/", None, None, "http://arroyo.example:5115"),
        ("arroyo.example", "5116", None, "http://arroyo.example:5116"),
        ("arroyo.example", "", None, "http://arroyo.example:5115"),
    ],
)
def test_an_address_may_be_written_in_several_ways(
    host: str | None, port: Any, schema: str | None, base_url: str
) -> None:
    assert read(host=host, port=port, schema=schema).base_url == base_url


@pytest.mark.parametrize(
    "host",
    [
        *("arroyo example", "arroyo\texample", "arroyo.example/path", "arroyo.example:port"),
        *("arroyo.example:99999", "arroyo.example:0", "ftp://arroyo.example", "http://"),
        *("https:///path", "http://[::1", "[::1", "http://arroyo.example:port"),
        *("http://arroyo.example:99999", "http://arroyo.example?x=1", "http://arroyo.example/#x"),
        *("arroyo.example?x", "://", ":5115", "arroyo..example", "http://.example:5115"),
    ],
)
def test_an_invalid_host_is_refused(host: str) -> None:
    assert "field 'host': must" in refuse(host=host)


@pytest.mark.parametrize(
    "host",
    [
        *(f"user:{SECRET}@arroyo.example", f"http://user:{SECRET}@arroyo.example"),
        *(f"http://{SECRET}@arroyo.example", f"{SECRET}@arroyo.example"),
        *(f"ftp://user:{SECRET}@arroyo.example", f"http://user:{SECRET}/x@arroyo.example"),
        *(f"user:{SECRET}#x@arroyo.example", f"user:{SECRET}?x@arroyo.example"),
        *(f"user:{SECRET} @arroyo.example", f"http://user:{SECRET}@arroyo.example:port"),
    ],
)
def test_credentials_in_the_host_are_refused_and_not_shown(host: str) -> None:
    text = refuse(host=host)
    assert "field 'host': must" in text
    assert SECRET not in text
    assert SECRET[:6] not in text


@pytest.mark.parametrize(
    "fields",
    [
        *({"host": f"arroyo.example/{SECRET}"}, {"host": f"ftp://arroyo.example/{SECRET}"}),
        *({"host": f"arroyo.example?token={SECRET}"}, {"host": f"http://arroyo.example:99999/{SECRET}"}),
        *({"host": f"http://arroyo.example:{SECRET}"}, {"host": f"arroyo.example:x?token={SECRET}"}),
        *({"host": f"http://arroyo.example/?a=b@{SECRET}"}, {"host": f"http://arroyo.example/#{SECRET}"}),
        *(
            {"schema": f"https://user:{SECRET}@arroyo.example"},
            {"schema": f"https://arroyo.example/{SECRET}"},
        ),
        *({"port": f"5115/{SECRET}"}, {"port": f"user:{SECRET}@5115"}),
        *({"base_path": f"/arroyo?token={SECRET}"}, {"base_path": f"https://arroyo.example/{SECRET}"}),
        *(
            {"base_path": f"user:{SECRET}@arroyo"},
            {"base_path": f"/{SECRET} x"},
        ),
        {"host": f"http://arroyo.example/{SECRET}", "base_path": f"/other/{SECRET}"},
        *({"console_url": f"https://arroyo.example:x/{SECRET}"}, {"console_url": f"user:{SECRET}@arroyo"}),
        *({"console_url": f"ftp://arroyo.example/{SECRET}"}, {"console_url": f"https://h/?token={SECRET}"}),
        *({"console_url": f"https://user:{SECRET}@h"}, {"console_url": f"ftp://{SECRET}@x"}),
        {"console_url": f"https://user:1/{SECRET}@h"},
    ],
    ids=str,
)
def test_a_secret_in_the_wrong_field_is_not_shown(fields: dict[str, Any]) -> None:
    extra = {name: value for name, value in fields.items() if name in EXTRAS}
    text = refuse(extra, **{name: value for name, value in fields.items() if name not in EXTRAS})
    assert "field '" in text
    assert SECRET not in text
    assert SECRET[:6] not in text


@pytest.mark.parametrize("port", [0, -1, 65536, "x", "5115.0", [1]])
def test_an_invalid_port_is_refused(port: Any) -> None:
    assert f"field 'port': must be from 1 to 65535, got {port!r}" in refuse(port=port)


@pytest.mark.parametrize("schema", ["ftp", "httpx", "http://", "prod"])
def test_an_invalid_schema_is_refused(schema: str) -> None:
    assert f"field 'schema': must be 'http' or 'https', got {schema!r}" in refuse(schema=schema)


def test_contradicting_fields_are_refused() -> None:
    assert "field 'schema': is 'http', but host begins with https://" in refuse(
        host="https://arroyo.example", schema="http"
    )
    assert "field 'port': is 5115, but host has 80" in refuse(host="http://arroyo.example:80", port=5115)
    assert "field 'base_path': differs from the path that host ends with" in refuse(
        {"base_path": "/b"}, host="http://arroyo.example/a"
    )


@pytest.mark.parametrize(
    "base_path, path",
    [
        ("/arroyo", "/arroyo"),
        ("arroyo", "/arroyo"),
        ("/arroyo/", "/arroyo"),
        ("a/b//", "/a/b"),
        ("/arroyo/api/v1", "/arroyo"),
        ("/arroyo//api/v1/", "/arroyo"),
        ("/api/v1", ""),
        ("/", ""),
        ("", ""),
        (None, ""),
        ("  ", ""),
    ],
)
def test_base_path(base_path: str | None, path: str) -> None:
    assert read({"base_path": base_path}).base_url == f"http://arroyo.example:5115{path}"
    assert read({"base_path": base_path}, host="http://h:1" + path).base_url == f"http://h:1{path}"


@pytest.mark.parametrize("base_path", ["/a?b", "/a#b", "/a b", "http://x/y", 5, ["/a"], "a\\b"])
def test_an_invalid_base_path_is_refused(base_path: Any) -> None:
    assert "field 'base_path': must be a" in refuse({"base_path": base_path})


# -- key and headers --------------------------------------------------------------------------------------------


def test_the_password_is_the_api_key() -> None:
    assert read(password="key").api_key == "key"
    assert read(password="").api_key is None
    assert read().api_key is None


@pytest.mark.parametrize("password", [f"{SECRET}\n", f" {SECRET}", "s3cr3t\nX-Other: 1", SECRET])
def test_a_password_that_cannot_be_sent_is_refused(password: str) -> None:
    text = refuse(password=password)
    assert "field 'password': must" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize(
    "value", [{"X-Tenant": "blue"}, '{"X-Tenant": "blue"}', ' {"X-Tenant": "blue"} ', '{"X-Tenant":\n"blue"}']
)
def test_headers(value: Any) -> None:
    assert read({"headers": value}).headers == {"X-Tenant": "blue"}


@pytest.mark.parametrize(
    "value", ["X-Gate, X-Org", ["X-Gate", "X-Org"], '["X-Gate", "X-Org"]', " X-Gate ,X-Org,"]
)
def test_secret_headers(value: Any) -> None:
    headers = {"X-Gate": "a", "X-Org": "b"}
    assert read({"headers": headers, "secret_headers": value}).secret_headers == ("X-Gate", "X-Org")


@pytest.mark.parametrize("value", [5, {"X-Gate": "a"}, ["X-Gate", 5], "X-Other"])
def test_invalid_secret_headers_are_refused(value: Any) -> None:
    assert "field 'secret_headers': " in refuse({"headers": {"X-Gate": "a"}, "secret_headers": value})


@pytest.mark.parametrize("name", ["headers", "proxies"])
@pytest.mark.parametrize("value", [None, "", "  ", "{}", {}])
def test_empty_mappings_are_accepted(name: str, value: Any) -> None:
    assert getattr(read({name: value}), name) == {}


@pytest.mark.parametrize("name", ["headers", "proxies"])
@pytest.mark.parametrize(
    "value",
    [
        *(f"X-Token: {SECRET}", f'{{"X-Token": "{SECRET}"', f'["{SECRET}"]', f'"{SECRET}"', [SECRET]),
        *({"http": {"x": SECRET}}, {"http": 5}, "null", "5", 7, True),
    ],
)
def test_invalid_mappings_are_refused(name: str, value: Any) -> None:
    text = refuse({name: value})
    assert f"field {name!r}: must be a JSON object" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "headers",
    [{"X Token": SECRET}, {"": SECRET}, {"X-Token": SECRET}, {"X-Token": "s3cr3t\n"}, {"Range": "s3cr3t"}],
)
def test_headers_that_cannot_be_sent_are_refused(headers: dict[str, str]) -> None:
    text = refuse({"headers": headers})
    assert "field 'headers': " in text
    assert "s3cr3t" not in text


def test_proxies() -> None:
    proxies = {"http": "http://user:pass@proxy:3128", "https": "https://proxy"}
    assert read({"proxies": json.dumps(proxies)}).proxies == proxies


@pytest.mark.parametrize(
    "proxies",
    [
        {f"http://user:{SECRET}@[proxy": f"http://user:{SECRET}@[proxy"},
        *({"ftp": f"http://user:{SECRET}@proxy"}, {"http": f"user:{SECRET}@proxy:3128"}),
        *({"http": f"socks5://user:{SECRET}@proxy"}, {"http": f"http://user:{SECRET}@[proxy"}),
        *({"http": f"http://user:{SECRET}@proxy:port"}, {"http": "http://"}, {"http": ""}),
    ],
)
def test_invalid_proxies_are_refused(proxies: dict[str, str]) -> None:
    text = refuse({"proxies": proxies})
    assert "field 'proxies': " in text
    assert SECRET not in text


# -- TLS, timeouts, console ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, verify",
    [
        (True, True),
        (False, False),
        ("true", True),
        ("False", False),
        (" FALSE ", False),
        (None, True),
        ("", True),
    ],
)
def test_verify(value: Any, verify: bool) -> None:
    assert read({"verify": value}).verify is verify


@pytest.mark.parametrize("value", ["no", "0", 0, 1, "off", [], {"a": 1}])
def test_an_invalid_verify_is_refused(value: Any) -> None:
    assert f"field 'verify': must be true or false, got {value!r}" in refuse({"verify": value})


def test_certificates() -> None:
    made = read({"ca_cert": "/a.pem", "client_cert": "/b.pem", "client_key": " /c.pem "})
    assert (made.ca_cert, made.client_cert, made.client_key) == ("/a.pem", "/b.pem", "/c.pem")
    assert read({"client_cert": "/both.pem"}).client_key is None
    assert read({"ca_cert": "", "client_cert": None}).ca_cert is None


@pytest.mark.parametrize("name", ["ca_cert", "client_cert", "client_key", "base_path", "console_url"])
def test_values_that_are_not_strings_are_refused(name: str) -> None:
    assert f"field {name!r}: must be a string, got int" in refuse({name: 5})


def test_a_client_key_without_its_certificate_is_refused() -> None:
    assert "field 'client_key': needs client_cert" in refuse({"client_key": "/c.pem"})


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
@pytest.mark.parametrize("value, seconds", [(2, 2.0), (0.5, 0.5), ("7", 7.0), (" 1.5 ", 1.5)])
def test_timeouts(name: str, value: Any, seconds: float) -> None:
    assert getattr(read({name: value}), f"{name}_seconds") == seconds


def test_default_timeouts() -> None:
    for extra in ({}, {"connect_timeout": "", "read_timeout": None}):
        made = read(extra)
        assert (made.connect_timeout_seconds, made.read_timeout_seconds) == (5.0, 30.0)


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
@pytest.mark.parametrize(
    "value", [0, -1, "x", "nan", float("inf"), "1e999", True, False, [], {"a": 1}, 10**400, "1_0", 86_401]
)
def test_invalid_timeouts_are_refused(name: str, value: Any) -> None:
    assert f"field {name!r}: must be a number of seconds, more than 0 and 86,400 or less, got" in refuse(
        {name: value}
    )


@pytest.mark.parametrize("url", ["https://console.example", "http://console.example:8080/arroyo/"])
def test_console_url(url: str) -> None:
    assert read({"console_url": url}).console_url == url


@pytest.mark.parametrize(
    "url",
    [
        *("console.example", "ftp://x", "javascript:alert(1)", "http://", "http://[x", "http://a b"),
        "https://x:y",
    ],
)
def test_an_invalid_console_url_is_refused(url: str) -> None:
    assert "field 'console_url': must be http(s)://host[:port][/path]" in refuse({"console_url": url})


@pytest.mark.parametrize("name", ["verfiy", "Headers", "timeout", "extra__arroyo__verify", ""])
def test_an_unknown_extra_is_refused(name: str) -> None:
    text = refuse({name: SECRET, "verify": True})
    assert f"field 'extra.{name}': is unknown; known: base_path, console_url, verify" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "message, text",
    [
        ("ca_cert: cannot read '/x': No such file", "field 'ca_cert': cannot read '/x'"),
        ("client_cert '/x': not a certificate", "field 'client_cert': '/x': not a certificate"),
        ("api_key must not be empty", "field 'password': must not be empty"),
        ("headers['X'] must hold", "field 'headers': ['X'] must hold"),
        (
            "environment variable CURL_CA_BUNDLE: cannot use",
            "'a': environment variable CURL_CA_BUNDLE: cannot",
        ),
        ("", "'a': "),
    ],
)
def test_an_error_in_the_settings_names_the_field(message: str, text: str) -> None:
    assert text in str(settings_error("a", ValueError(message)))


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text("/:@[]?#.%\\ ab1"),
    st.lists(st.text(), max_size=2),
    st.dictionaries(st.text(), st.text(), max_size=2),
)
extras = st.dictionaries(st.sampled_from(EXTRAS), anything, max_size=3)
hosts = st.one_of(
    st.none(), st.text(), st.text("/:@[]?#.%\\ ab1"), st.text("/:@[]ab1").map("http://{}".format)
)


@settings(max_examples=300)
@given(
    host=hosts,
    port=st.one_of(st.none(), st.integers()),
    schema=st.one_of(st.none(), st.text(), st.sampled_from(["http", "https"])),
    password=st.one_of(st.none(), st.text()),
    extra=extras,
)
def test_any_connection_gives_settings_or_names_a_field(
    host: str | None, port: int | None, schema: str | None, password: str | None, extra: dict[str, Any]
) -> None:
    try:
        made = read(extra, host=host, port=port, schema=schema, password=password)
    except ArroyoSettingsError as err:
        assert "Airflow connection 'arroyo_prod', field '" in str(err)  # noqa: PT017  # either is correct
        return
    # The result is itself a valid host, and leads to the same address.
    again = read({"base_path": None}, host=made.base_url)
    assert again.base_url == made.base_url
