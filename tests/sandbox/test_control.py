"""``/sandbox/…`` and the page: what they show, and who may read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock, RealClock
from airflow_provider_arroyo.sandbox.clock import Clock
from airflow_provider_arroyo.sandbox.http_server import HttpRequest
from airflow_provider_arroyo.sandbox.request_log import RequestLog
from tests.sandbox.support import Caller
from tests.support import ENDLESS

KEY = {"authorization": "Bearer sekrit"}
FAULT = {"kind": "status", "times": 1}


@pytest.fixture
def locked() -> Iterator[ArroyoSandbox]:
    """A sandbox with an API key."""
    with ArroyoSandbox(api_key="sekrit", clock=ManualClock()) as sandbox:
        yield sandbox


def test_a_static_key_guards_everything(locked: ArroyoSandbox) -> None:
    for path in ("/", "/pipelines/x", "/?token=x", "/api/v1/jobs", "/api/nope"):
        answer = requests.get(locked.url + path, timeout=60)
        assert (answer.status_code, answer.content) == (401, b""), path
    assert requests.get(f"{locked.url}/api/v1/jobs", headers=KEY, timeout=60).json() == {"data": []}
    refused = requests.get(f"{locked.url}/sandbox/requests", timeout=60)
    assert refused.status_code == 401
    assert "has an API key" in refused.json()["error"]
    assert requests.post(f"{locked.url}/sandbox/faults", json=FAULT, timeout=60).status_code == 401
    assert requests.post(f"{locked.url}/sandbox/faults", json=FAULT, headers=KEY, timeout=60).ok
    assert len(locked.faults.pending()) == 1


def test_the_pages_token_opens_the_page_and_nothing_of_the_api(locked: ArroyoSandbox) -> None:
    assert requests.get(locked.page_url, timeout=60).ok
    token = {"authorization": f"Bearer {locked.page_url.partition('token=')[2]}"}
    assert requests.get(f"{locked.url}/sandbox/overview", headers=token, timeout=60).ok
    assert requests.get(f"{locked.url}/api/v1/jobs", headers=token, timeout=60).status_code == 401


def test_the_log_keeps_no_credentials(locked: ArroyoSandbox) -> None:
    secrets = {**KEY, "X-Api-Key": "sekrit", "X-Api": "sekrit", "Cookie": "a=sekrit", "X-Trace": "7"}
    query = "?api_key=sekrit&Token=other&x=sekrit&limit=1"
    requests.get(f"{locked.url}/api/v1/jobs{query}", headers=secrets, timeout=60)
    shown = requests.get(f"{locked.url}/sandbox/requests?path=*/jobs", headers=KEY, timeout=60)
    assert "sekrit" not in shown.text
    assert shown.json()["data"][0]["headers"]["authorization"] == "***"
    assert shown.json()["data"][0]["headers"]["x-trace"] == "7"
    assert shown.json()["data"][0]["query"] == "api_key=***&Token=***&x=***&limit=1"
    assert all("sekrit" not in str(request) for request in locked.requests)


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json", "host": "evil.example.com"}, 403),
        ({"content-type": "application/json", "host": "127.0.0.1.evil.example.com:80"}, 403),
        ({"content-type": "application/json", "host": "localhost:5115"}, 200),
        ({"content-type": "application/json; charset=utf-8", "host": "[::1]:5115"}, 200),
    ],
)
def test_pages_of_other_origins_can_inject_nothing(
    sandbox: ArroyoSandbox, headers: dict[str, str], status: int
) -> None:
    url = f"{sandbox.url}/sandbox/faults"
    answer = requests.post(url, data='{"kind": "status"}', headers=headers, timeout=60)
    assert answer.status_code == status, answer.text
    assert len(sandbox.faults.pending()) == (status == 200)
    preflight = requests.options(url, headers={"origin": "http://evil.example.com"}, timeout=60)
    assert "access-control-allow-origin" not in preflight.headers


def test_the_page_is_one_file_that_needs_nothing_else(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create("</script><b>")
    sandbox.advance(2)
    for path in ("/", f"/pipelines/{pipeline_id}"):
        page = requests.get(sandbox.url + path, timeout=60)
        assert page.status_code == 200
        assert "Arroyo sandbox" in page.text
        assert not {"http://", "https://"} & {
            page.text[at : at + 8].rstrip("/") for at in range(len(page.text))
        }
    shown = requests.get(f"{sandbox.url}/sandbox/overview", timeout=60).json()
    assert shown["pipelines"][0]["job"]["state"] == "Running"
    one = requests.get(f"{sandbox.url}/sandbox/pipelines/{pipeline_id}", timeout=60).json()
    assert one["name"] == "</script><b>"
    assert requests.get(f"{sandbox.url}/sandbox/pipelines/nope", timeout=60).status_code == 404
    missing = requests.get(f"{sandbox.url}/sandbox/nope", timeout=60)
    assert (missing.status_code, "POST /sandbox/faults" in missing.json()["error"]) == (404, False)
    assert requests.post(f"{sandbox.url}/", timeout=60).status_code == 405


def test_what_was_not_judged_is_listed(sandbox: ArroyoSandbox, call: Caller) -> None:
    query = ENDLESS.replace("SELECT counter", "SELECT counter + 1")
    call("POST", "/pipelines/validate_query", {"query": ENDLESS})
    call.create("plus", query)
    call.create("plus", query)
    refused = {"name": "refused", "query": query.replace("FROM impulse", "FROM nowhere"), "parallelism": 1}
    assert call("POST", "/pipelines", refused).status_code == 400
    assert "refused" not in [item.name for item in sandbox.not_judged]
    (found,) = [item for item in sandbox.not_judged if item.name == "plus"]
    assert found.query == query
    assert found.what
    listed = requests.get(f"{sandbox.url}/sandbox/not_judged", timeout=60).json()["data"]
    assert {"name": "plus", "query": query, "what": list(found.what)} in listed
    assert requests.get(f"{sandbox.url}/sandbox/overview", timeout=60).json()["not_judged"]


@pytest.mark.parametrize("clock", [ManualClock(), RealClock(), RealClock(speed=0.001)])
def test_a_clock_can_be_moved_on(clock: Clock) -> None:
    with ArroyoSandbox(clock=clock) as sandbox, requests.Session() as session:
        call = Caller(session, sandbox.url)
        call.create("x")
        sandbox.faults.api_away(3600)
        with pytest.raises(requests.ConnectionError):
            call("GET", "/ping")
        sandbox.advance(3600)
        assert call("GET", "/ping").ok
        assert sandbox.state("x") == "Running"
        with pytest.raises(ValueError, match="time cannot go back"):
            sandbox.advance(-1)


def test_the_clock_moves_over_http(sandbox: ArroyoSandbox, call: Caller) -> None:
    call.create("x")
    assert requests.post(f"{sandbox.url}/sandbox/advance", json={"seconds": 2}, timeout=60).ok
    assert sandbox.state("x") == "Running"
    for seconds in (-1, "2", True, None, 1e30):
        answer = requests.post(f"{sandbox.url}/sandbox/advance", json={"seconds": seconds}, timeout=60)
        assert answer.status_code == 400


@pytest.mark.parametrize("body", ["[]", "{", '"x"', "[" * 100_000])
def test_a_body_that_is_no_object_is_refused(sandbox: ArroyoSandbox, body: str) -> None:
    headers = {"content-type": "application/json"}
    answer = requests.post(f"{sandbox.url}/sandbox/faults", data=body, headers=headers, timeout=60)
    assert answer.status_code == 400
    assert "must be a JSON object" in answer.json()["error"]


def test_the_log_counts_requests_with_their_bodies(sandbox: ArroyoSandbox, call: Caller) -> None:
    call.create()
    call("GET", "/jobs")
    assert sandbox.requests.count("post", "*/pipelines") == sandbox.requests.count("POST") == 1
    (made,) = sandbox.requests.find("POST")
    assert (made.json["query"], made.status) == (ENDLESS, 200)
    assert requests.delete(f"{sandbox.url}/sandbox/requests", timeout=60).ok
    assert (len(sandbox.requests), sandbox.requests.total) == (0, 0)


def test_the_log_forgets_the_oldest_beyond_its_size() -> None:
    log = RequestLog(size=3, size_bytes=100)
    headers: dict[str, Any] = {}
    for number in range(5):
        log.add(HttpRequest("GET", f"/{number}", "", headers, b"x"), 0)
    assert ([item.path for item in log], log.total) == (["/2", "/3", "/4"], 5)
    log.add(HttpRequest("POST", "/big", "", headers, b"x" * 99), 0)
    assert [item.path for item in log] == ["/4", "/big"]
