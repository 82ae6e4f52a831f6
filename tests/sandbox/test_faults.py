"""Faults on order befall requests, pipelines and the server, and can be taken back."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.sandbox.support import IMPULSE, Caller


def test_status_befalls_the_next_matching_requests_only(sandbox: ArroyoSandbox, call: Caller) -> None:
    sandbox.faults.status(503, times=2, skip=1, path="*/jobs", retry_after=4)
    seen = [call("GET", "/jobs") for _ in range(4)]
    assert [answer.status_code for answer in seen] == [200, 503, 503, 200]
    assert seen[1].headers["retry-after"] == "4"
    assert call("GET", "/ping").status_code == 200


@pytest.mark.parametrize("fault", ["status", "reset"])
def test_after_the_effect_only_the_answer_is_lost(sandbox: ArroyoSandbox, call: Caller, fault: str) -> None:
    sandbox.faults.order(fault, method="POST", after_effect=True)
    if fault == "reset":
        with pytest.raises(requests.ConnectionError):
            call.create("lost")
    else:
        body = {"name": "lost", "query": IMPULSE, "parallelism": 1}
        assert call("POST", "/pipelines", body).status_code == 503
    assert sandbox.state("lost") == "Created"


def test_the_api_goes_away_and_comes_back_on_the_same_port(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create()
    port = sandbox.port
    sandbox.faults.api_away()
    with pytest.raises(requests.ConnectionError, match=r"refused|reset"):
        call("GET", "/ping")
    sandbox.advance(3)
    sandbox.faults.api_back()
    assert sandbox.port == port
    assert call.job(pipeline_id)["state"] == "Running"


def test_an_unknown_state_is_shown_and_passes(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create()
    sandbox.advance(2)
    sandbox.faults.show_state(pipeline_id, "Hibernating", seconds=5)
    sandbox.advance(1)
    assert call.job(pipeline_id)["state"] == "Hibernating"
    sandbox.advance(5)
    assert call.job(pipeline_id) | {"state": "Running", "run_id": 1} == call.job(pipeline_id)


def test_a_pipeline_to_come_fails_with_the_ordered_reason(sandbox: ArroyoSandbox, call: Caller) -> None:
    sandbox.faults.fail("later", error="no more disk", domain="external", after=3)
    pipeline_id = call.create("later")
    sandbox.advance(2)
    assert call.job(pipeline_id)["state"] == "Running"
    sandbox.advance(10)
    job = call.job(pipeline_id)
    assert job["state"] == "Failed"
    if sandbox.arroyo_version == "0.15":
        assert job["failure_message"] == "no more disk"
    else:
        assert job["failure_reason"] == {"error": "no more disk", "domain": "external"}


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"kind": "earthquake"}, "kind: 'earthquake' is not one of status"),
        ({"kind": "status", "status": 1000}, "status: must be 100 to 599"),
        ({"kind": "status", "times": 0}, "times: must be 1 or more"),
        ({"kind": "fail", "domain": "mine"}, "domain: 'mine' is not one of user, external, internal"),
        ({"kind": "latency", "seconds": "soon"}, "seconds: must be a number"),
        ({"kind": "reset", "when": "now"}, "when: a fault of kind reset takes"),
        ({"kind": "api_away"}, "seconds: over HTTP it must be given"),
    ],
)
def test_a_bad_order_is_refused_by_field_and_choices(
    sandbox: ArroyoSandbox, fields: dict[str, object], words: str
) -> None:
    answer = requests.post(f"{sandbox.url}/sandbox/faults", json=fields, timeout=10)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert sandbox.faults.pending() == []
