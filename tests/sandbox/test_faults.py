"""Faults hit requests, pipelines and the server, and can be removed."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from scripts.local_airflow import wait_until
from tests.sandbox.support import Caller
from tests.support import ENDLESS


def test_a_status_hits_the_next_matching_requests_only(sandbox: ArroyoSandbox, call: Caller) -> None:
    sandbox.faults.status(503, times=2, skip=1, path="*/jobs", retry_after=4)
    seen = [call("GET", "/jobs") for _ in range(4)]
    assert [answer.status_code for answer in seen] == [200, 503, 503, 200]
    assert seen[1].headers["retry-after"] == "4"
    assert call("GET", "/ping").status_code == 200


@pytest.mark.parametrize("fault", ["status", "reset", "hang_up"])
def test_after_the_effect_only_the_response_is_lost(sandbox: ArroyoSandbox, call: Caller, fault: str) -> None:
    sandbox.faults.inject(fault, method="POST", after_effect=True)
    if fault != "status":
        with pytest.raises(requests.ConnectionError):
            call.create("lost")
    else:
        body = {"name": "lost", "query": ENDLESS, "parallelism": 1}
        assert call("POST", "/pipelines", body).status_code == 503
    assert sandbox.state("lost") == "Created"


def test_the_api_goes_away_and_comes_back_on_the_same_port(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create()
    port = sandbox.port
    for _ in range(2):
        sandbox.faults.api_away()
        with pytest.raises(requests.ConnectionError, match=r"refused|reset"):
            call("GET", "/ping")
        # Nobody else gets the port meanwhile.
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        sandbox.advance(3)
        sandbox.faults.api_back()
        assert sandbox.port == port
        assert call.job(pipeline_id)["state"] == "Running"


def test_while_the_api_comes_and_goes_nobody_else_can_take_its_port(sandbox: ArroyoSandbox) -> None:
    taken, ended = [], threading.Event()

    def take() -> None:
        while not ended.is_set():
            with socket.socket() as other, contextlib.suppress(OSError):
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(("127.0.0.1", sandbox.port))
                other.listen()
                taken.append(other)

    thief = threading.Thread(target=take, daemon=True)
    thief.start()
    for _ in range(50):
        sandbox.faults.api_away()
        sandbox.faults.api_back()
    ended.set()
    thief.join()
    assert not taken


def test_the_api_may_go_away_and_come_back_several_times_at_once(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    faults = sandbox.faults

    def repeat(seed: int) -> None:
        chosen = random.Random(seed)
        for _ in range(200):
            if chosen.random() < 0.5:
                faults.api_away()
            else:
                faults.api_back()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(repeat, range(4)))
    faults.api_back()
    assert call("GET", "/ping").status_code == 200


def test_an_unknown_state_is_shown_and_passes(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create()
    sandbox.advance(2)
    sandbox.faults.show_state(pipeline_id, "Hibernating", seconds=5)
    sandbox.advance(1)
    assert call.job(pipeline_id)["state"] == "Hibernating"
    sandbox.advance(5)
    assert call.job(pipeline_id) | {"state": "Running", "run_id": 1} == call.job(pipeline_id)


def test_a_pipeline_to_come_fails_with_the_injected_reason(sandbox: ArroyoSandbox, call: Caller) -> None:
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
        ({"kind": ["status"]}, "kind: ['status'] is not one of status"),
        ({"kind": {}}, "kind: {} is not one of status"),
        ({"kind": "fail", "error": ["x"]}, "error: must be text"),
        ({"kind": "not_json", "content_type": "text/html\r\nx: y"}, "content_type: must be one line"),
        ({"kind": "not_json", "content_type": " text/html"}, "content_type: must be one line"),
        ({"kind": "status", "error": "\ud800"}, "error: must be Unicode without lone surrogates"),
        ({"kind": "show_state", "state": "a\udfff"}, "state: must be Unicode without lone surrogates"),
        ({"kind": "status", "status": 1000}, "status: must be from 200 to 599"),
        ({"kind": "status", "times": 0}, "times: must be from 1 to 1,000,000,000"),
        ({"kind": "fail", "domain": "mine"}, "domain: 'mine' is not one of user, external, internal"),
        ({"kind": "latency", "seconds": "soon"}, "seconds: must be a number"),
        ({"kind": "latency", "seconds": True}, "seconds: must be a number"),
        ({"kind": "fail", "after": 1e300}, "after: must be from 0 to 1,000,000,000"),
        ({"kind": "status", "status": "Infinity"}, "status: must be a whole number"),
        ({"kind": "reset", "when": "now"}, "when: a fault of kind reset takes"),
        ({"kind": "api_away"}, "seconds: must be given, or nothing"),
    ],
)
def test_a_bad_fault_is_refused_by_field_and_choices(
    sandbox: ArroyoSandbox, fields: dict[str, object], words: str
) -> None:
    answer = requests.post(f"{sandbox.url}/sandbox/faults", json=fields, timeout=60)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert sandbox.faults.pending() == []


def test_latency_lets_a_short_timeout_pass(sandbox: ArroyoSandbox, call: Caller) -> None:
    sandbox.faults.latency(5, path="*/jobs", times=1)
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{sandbox.url}/api/v1/jobs", timeout=0.1)
    assert call("GET", "/jobs").status_code == 200


def test_responses_that_never_end_are_cut_short_or_are_not_json(sandbox: ArroyoSandbox, call: Caller) -> None:
    sandbox.faults.hang(path="*/jobs")
    with pytest.raises(requests.exceptions.RequestException):
        requests.get(f"{sandbox.url}/api/v1/jobs", timeout=0.2)
    # A slow machine may not have read the request yet.
    wait_until(
        lambda: not sandbox.faults.pending(), what="the hang", timeout_seconds=60, interval_seconds=0.005
    )
    sandbox.faults.endless(path="*/jobs")
    with requests.get(f"{sandbox.url}/api/v1/jobs", timeout=60, stream=True) as endless:
        assert len(endless.raw.read(100_000)) == 100_000
    sandbox.faults.cut_short(path="*/jobs")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        call("GET", "/jobs")
    sandbox.faults.not_json(path="*/jobs")
    page = call("GET", "/jobs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.text.startswith("<html>")
    assert call("GET", "/jobs").json() == {"data": []}


def test_early_hints_come_before_the_response(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.early_hints(times=1)
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=60) as client:
        client.sendall(b"GET /api/v1/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(10_000), b""))
    first, _, second = received.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 103 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert second.endswith(b'"Pong"')


def test_the_api_comes_back_by_itself_when_its_time_is_over(sandbox: ArroyoSandbox, call: Caller) -> None:
    sandbox.faults.api_away(seconds=20)
    sandbox.advance(19.9)
    with pytest.raises(requests.ConnectionError, match="refused"):
        call("GET", "/ping")
    sandbox.advance(0.2)
    assert call("GET", "/ping").json() == "Pong"
    sandbox.faults.api_away(seconds=20)
    sandbox.faults.clear()
    assert call("GET", "/ping").json() == "Pong"


def test_a_server_that_was_killed_schedules_its_jobs_again(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create()
    sandbox.advance(5)
    sandbox.faults.server_restart(seconds=3)
    with pytest.raises(requests.ConnectionError):
        call("GET", "/ping")
    sandbox.advance(3.5)
    job = call.job(pipeline_id)
    assert (job["state"], job["run_id"]) == ("Running", 2)


@pytest.mark.parametrize("faults", [(100,), (10, 100)], ids=["one", "the last one decides"])
def test_without_a_controller_a_pipeline_stays_created(
    faults: tuple[int, ...], sandbox: ArroyoSandbox, call: Caller
) -> None:
    for seconds in faults:
        sandbox.faults.controller_away(seconds=seconds)
    pipeline_id = call.create()
    sandbox.advance(99)
    assert call.job(pipeline_id)["state"] == "Created"
    sandbox.advance(3)
    assert call.job(pipeline_id)["state"] == "Running"


def test_pipelines_are_stopped_and_deleted_externally(sandbox: ArroyoSandbox, call: Caller) -> None:
    first, second = call.create("first"), call.create("second")
    sandbox.advance(2)
    sandbox.faults.stop("first", mode="checkpoint", after=1)
    sandbox.faults.delete("second", after=1)
    assert call.job(second)["state"] == "Running"
    sandbox.advance(3)
    job = call.job(first)
    assert (job["state"], job["running_desired"]) == ("Stopped", False)
    assert call("GET", f"/pipelines/{second}").status_code == 404
    assert [item["id"] for item in call("GET", "/jobs").json()["data"]] == [job["id"]]


def test_a_pipeline_that_never_starts_and_one_whose_worker_dies(sandbox: ArroyoSandbox, call: Caller) -> None:
    sandbox.faults.never_starts("stuck")
    stuck, healthy = call.create("stuck"), call.create("healthy")
    sandbox.advance(60)
    assert (call.job(stuck)["state"], call.job(healthy)["state"]) == ("Scheduling", "Running")
    sandbox.faults.kill_worker("healthy")
    sandbox.advance(1)
    assert call.job(healthy)["state"] == "Recovering"
    sandbox.advance(2)
    assert (call.job(healthy)["state"], call.job(healthy)["run_id"]) == ("Running", 2)


def test_an_unreachable_kafka_lets_runs_end_after_30_s_each_with_an_unfinished_checkpoint(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    sandbox.faults.kafka_away("broken")
    pipeline_id = call.create("broken")
    path = f"/pipelines/{pipeline_id}"
    sandbox.advance(20)
    begun = call.job(pipeline_id)
    assert (begun["state"], begun["run_id"]) == ("Running", 1)
    assert [(item["epoch"], item["finish_time"]) for item in call.checkpoints(pipeline_id)] == [(1, None)]
    errors = f"{path}/jobs/{begun['id']}/errors"
    assert call("GET", errors).json()["data"] == []
    sandbox.advance(60)
    job = call.job(pipeline_id)
    assert job["run_id"] > 1
    assert job["start_time"] == begun["start_time"]
    words = (
        "Could not create Kafka consumer" if sandbox.arroyo_version == "0.15" else "creating kafka consumer"
    )
    assert call("GET", errors).json()["data"][0]["message"] == words
    sandbox.advance(400)
    assert call.job(pipeline_id)["run_id"] > 10
    while call.job(pipeline_id)["state"] != "Running":
        sandbox.advance(0.2)
    call("PATCH", path, {"stop": "immediate"})
    sandbox.advance(2)
    assert call.job(pipeline_id)["state"] == "Stopping"
    sandbox.advance(10)
    assert call.job(pipeline_id)["state"] == "Stopped"
    assert call.checkpoints(pipeline_id) == []


def test_a_final_checkpoint_of_a_source_that_is_away_never_finishes(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    sandbox.faults.kafka_away("broken")
    path = f"/pipelines/{(pipeline_id := call.create('broken'))}"
    sandbox.advance(20)
    call("PATCH", path, {"stop": "checkpoint"})
    sandbox.advance(600)
    assert call.job(pipeline_id)["state"] == "CheckpointStopping"
    assert [item["finish_time"] for item in call.checkpoints(pipeline_id)] == [None]
    call("PATCH", path, {"stop": "immediate"})
    sandbox.advance(2)
    assert call.job(pipeline_id)["state"] == "Stopped"


def test_a_stop_before_a_late_pickup_leaves_the_pipeline_unstarted(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    sandbox.faults.late_pickup("busy", seconds=5, times=None)
    stopped, started = call.create("busy"), call.create("busy")
    sandbox.advance(4)
    assert call.job(stopped)["state"] == "Created"
    call("PATCH", f"/pipelines/{stopped}", {"stop": "checkpoint"})
    sandbox.advance(3)
    job = call.job(stopped)
    assert (job["state"], job["run_id"], job["start_time"]) == ("Stopped", 0, None)
    assert call.checkpoints(stopped) == []
    assert call.job(started)["state"] == "Running"
    call("PATCH", f"/pipelines/{stopped}", {"stop": "none"})
    sandbox.advance(2)
    assert (call.job(stopped)["state"], call.job(stopped)["run_id"]) == ("Running", 1)


def test_faults_can_be_removed(sandbox: ArroyoSandbox, call: Caller) -> None:
    fault = sandbox.faults.status(500, times=None)
    assert call("GET", "/ping").status_code == 500
    listed = requests.get(f"{sandbox.url}/sandbox/faults", timeout=60).json()
    assert [item["id"] for item in listed["pending"]] == [fault]
    assert "status" in listed["kinds"]["status"]
    assert requests.delete(f"{sandbox.url}/sandbox/faults/{fault}", timeout=60).status_code == 200
    assert requests.delete(f"{sandbox.url}/sandbox/faults/{fault}", timeout=60).status_code == 404
    assert call("GET", "/ping").status_code == 200
    pipeline_id = call.create("later")
    sandbox.advance(2)
    fault = sandbox.faults.fail("later", after=60)
    assert [(item["id"], item["kind"]) for item in sandbox.faults.pending()] == [(fault, "fail")]
    assert sandbox.faults.remove(fault)
    assert not sandbox.faults.remove(fault)
    sandbox.advance(120)
    assert (call.job(pipeline_id)["state"], sandbox.faults.pending()) == ("Running", [])
    sandbox.faults.latency(5)
    sandbox.faults.fail("orders")
    sandbox.faults.controller_away()
    sandbox.faults.clear()
    assert sandbox.faults.pending() == []
    pipeline_id = call.create("orders")
    sandbox.advance(3)
    assert call.job(pipeline_id)["state"] == "Running"


def test_a_fault_that_waits_for_a_first_run_is_listed_and_can_be_removed(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    faults = [sandbox.faults.fail("new", error=error) for error in ("first", "second")]
    pipeline_id = call.create("new")
    assert [item["id"] for item in sandbox.faults.pending()] == faults
    for fault in faults:
        assert sandbox.faults.remove(fault)
    sandbox.advance(10)
    assert (call.job(pipeline_id)["state"], sandbox.faults.pending()) == ("Running", [])


def test_a_skewed_clock_changes_no_time_that_was_shown_before(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create()
    sandbox.advance(5)
    job, made = call.job(pipeline_id), call.checkpoints(pipeline_id)
    sandbox.faults.clock_skew(3600)
    sandbox.advance(5)
    assert call.job(pipeline_id) == job
    listed = call.checkpoints(pipeline_id)
    assert listed[: len(made) - 1] == made[:-1]
    assert listed[-1]["start_time"] - made[-1]["start_time"] > 3600_000_000
    sandbox.faults.clear()
    sandbox.advance(5)
    assert call.checkpoints(pipeline_id)[-1]["start_time"] < listed[-1]["start_time"]


def test_what_is_cleared_hits_nothing_later_and_holds_nothing_back(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    running, to_come = call.create("running"), "to come"
    sandbox.advance(2)
    sandbox.faults.fail(running, after=60)
    sandbox.faults.stop(to_come, after=60)
    sandbox.faults.never_starts("stuck")
    sandbox.faults.late_pickup("late", seconds=3600)
    others = [call.create(to_come), call.create("stuck"), call.create("late")]
    sandbox.advance(5)
    assert [call.job(one)["state"] for one in others] == ["Running", "Scheduling", "Created"]
    sandbox.faults.clear()
    sandbox.advance(120)
    assert [call.job(one)["state"] for one in (running, *others)] == ["Running"] * 4
    assert [call.job(one)["run_id"] for one in others] == [1, 1, 1]


def test_an_unknown_kind_of_fault_is_an_error_that_lists_the_kinds(sandbox: ArroyoSandbox) -> None:
    with pytest.raises(AttributeError, match=r"no fault of the kind 'flood'; there are status, latency"):
        sandbox.faults.flood()
    with pytest.raises(TypeError, match=r"^status takes status by position; name the other arguments$"):
        sandbox.faults.status(503, 2)
    with pytest.raises(TypeError, match=r"^reset takes nothing by position"):
        sandbox.faults.reset("*/jobs")
    assert "status" in dir(sandbox.faults)
