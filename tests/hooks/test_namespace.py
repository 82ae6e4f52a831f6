"""What distinguishes the pipelines of one Airflow from those of another on the same Arroyo."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_arroyo.exceptions import ArroyoSettingsError
from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.pipelines.ownership import Namespace


def _namespace(monkeypatch: pytest.MonkeyPatch, base_url: str | None, **extra: Any) -> Namespace:
    connection = {"conn_type": "arroyo", "host": "arroyo.example", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_TESTED", json.dumps(connection))
    monkeypatch.delenv("AIRFLOW__API__BASE_URL", raising=False)
    if base_url is not None:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    return ArroyoHook("arroyo_tested").namespace


@pytest.mark.parametrize("base_url", [None, "http://localhost:8080", "https://airflow.example.com"])
@pytest.mark.parametrize(
    "given, name", [("staging", "staging"), (" Team ü/1 ", "Team ü/1"), ("n" * 100,) * 2]
)
def test_the_namespace_of_the_connection_is_used(
    monkeypatch: pytest.MonkeyPatch, base_url: str | None, given: str, name: str
) -> None:
    assert _namespace(monkeypatch, base_url, namespace=given) == Namespace(name=name, is_explicit=True)


@pytest.mark.parametrize(
    "base_url, name",
    [
        ("https://Airflow.Example.com/prod/", "airflow.example.com"),
        ("http://airflow-staging:8080", "airflow-staging"),
        ("http://10.0.0.7:8080", "10.0.0.7"),
        ("http://[2001:db8::7]:8080", "2001:db8::7"),
        ("https://airflow.example.com.", "airflow.example.com"),
        *(
            (address, "")
            for address in (
                *(None, "", "no address", "http://[x", "localhost:8080", "http://localhost:8080"),
                *("http://airflow.localhost", "http://localhost.localdomain", "http://127.0.0.1:8080"),
                *("http://127.1.2.3", "http://0.0.0.0:8080", "http://[::1]:8080", "http://169.254.1.1"),
            )
        ),
    ],
)
@pytest.mark.parametrize("extra", [{}, {"namespace": ""}, {"namespace": None}])
def test_the_namespace_defaults_to_the_host_of_airflows_address(
    monkeypatch: pytest.MonkeyPatch, base_url: str | None, name: str, extra: dict[str, Any]
) -> None:
    assert _namespace(monkeypatch, base_url, **extra) == Namespace(name=name, is_explicit=False)


@pytest.mark.parametrize(
    "base_url, given, before",
    [
        ("https://airflow.example.com", "prod", {"": True, "airflow.example.com": True, "staging": False}),
        ("https://airflow.example.com", None, {"": False, "other.example.com": False}),
        ("http://localhost:8080", "prod", {"": True, "prod": False}),
    ],
)
def test_former_namespaces_are_those_before_it_was_set(
    monkeypatch: pytest.MonkeyPatch, base_url: str, given: str | None, before: dict[str, bool]
) -> None:
    namespace = _namespace(monkeypatch, base_url, namespace=given)
    assert {name: namespace.was_before(name) for name in before} == before


@pytest.mark.parametrize(
    "given, what",
    [
        ("n" * 101, "must be at most 100 printable characters"),
        ("a\nb", "must be at most 100 printable characters"),
        (7, "must be a string, got int"),
        (["a"], "must be a string, got list"),
    ],
)
def test_invalid_namespaces_are_refused(monkeypatch: pytest.MonkeyPatch, given: Any, what: str) -> None:
    with pytest.raises(ArroyoSettingsError, match=f"field 'namespace': {what}"):
        _namespace(monkeypatch, None, namespace=given)
