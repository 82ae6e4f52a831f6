"""Settings that cannot work are refused by name before any request, and no secret is shown."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_arroyo.client.settings import ClientSettings


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
        ({"api_key": ""}, "api_key"),
        ({"api_key": "pa55word\n"}, "api_key"),
        ({"api_key": " pa55word"}, "api_key"),
        ({"api_key": "pa55\r\nX-Admin: word"}, "api_key"),
        ({"api_key": "pa55wörd"}, "api_key"),
        ({"headers": {"X Y": "pa55word"}}, "headers"),
        ({"headers": {"X-Y": "pa55word\n"}}, "X-Y"),
        ({"proxies": {"ftp": "http://x:pa55word@localhost"}}, "ftp"),
        ({"proxies": {"http": "socks5://x:pa55word@localhost"}}, "proxies"),
        ({"proxies": {"http": "localhost:3128"}}, "proxies"),
        ({"proxies": {"http": "http://x:pa55word@localhost:99999"}}, "proxies"),
        ({"connect_timeout_seconds": 0}, "connect_timeout_seconds"),
        ({"read_timeout_seconds": -1}, "read_timeout_seconds"),
        ({"client_key": "/tmp/key.pem"}, "client_key"),
    ],
)
def test_bad_setting_is_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        ClientSettings(**given)
    assert "pa55" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    settings = ClientSettings(
        api_key="s3cret", headers={"X-Y": "s3cret"}, proxies={"http": "http://x:s3cret@localhost"}
    )
    assert "s3cret" not in repr(settings)
    assert settings.redact("a s3cret b") == "a *** b"


def test_secret_that_is_part_of_another() -> None:
    settings = ClientSettings(api_key="abc", headers={"X-Y": "abcdef"})
    assert settings.redact("abcdef abc") == "*** ***"


@pytest.mark.parametrize(
    "base, url",
    [
        (None, "http://localhost:5115/pipelines/a%2Fb%20c"),
        ("https://console.example/arroyo/", "https://console.example/arroyo/pipelines/a%2Fb%20c"),
    ],
)
def test_console_page_of_a_pipeline(base: str | None, url: str) -> None:
    assert ClientSettings(console_url=base).pipeline_console_url("a/b c") == url
