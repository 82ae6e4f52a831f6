"""The connection's form and its Test button, as this Airflow serves them."""

from __future__ import annotations

from urllib.parse import urlsplit

from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .site import Site


def test_the_form_has_labels_and_hides_secrets(site: Site) -> None:
    (form,) = [
        one for one in site.call("GET", "/ui/connections/hook_meta") if one["connection_type"] == "arroyo"
    ]
    standard, extra = form["standard_fields"], form["extra_fields"]
    assert standard["password"]["title"] == "API key"
    assert standard["login"]["hidden"]
    assert standard["host"]["placeholder"] == "arroyo.example.com"
    assert extra["headers"]["schema"]["format"] == "password"
    assert {"base_path", "console_url", "verify", "read_timeout"} <= set(extra)


def test_the_test_button_shows_its_result(site: Site, demo: ArroyoSandbox) -> None:
    url = urlsplit(demo.url)
    body = {"connection_id": "tried", "conn_type": "arroyo", "host": url.hostname, "port": url.port}
    found = site.call("POST", "/api/v2/connections/test", body)
    assert found["status"] is True
    assert found["message"].startswith(f"Arroyo 0.16 or later responds at {demo.url} within ")
    assert " pipelines." in found["message"]

    found = site.call("POST", "/api/v2/connections/test", {**body, "port": 1})
    assert found["status"] is False
    assert "refused" in found["message"]
