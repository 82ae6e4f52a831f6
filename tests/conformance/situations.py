"""Recreates the situations in which calls were recorded."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance import recordings
from tests.conformance.queries import MISSING_FILE, ONE_OF_TWO_ENDS, TUMBLING, WINDOW
from tests.conformance.recordings import RecordedCall
from tests.conformance.replay import Outcome, Replay
from tests.conformance.target import Target


def _calls(replay: Replay) -> None:
    replay.send(until="parallelism 0")
    _begin_of_a_second(replay.target)
    replay.send(until="get")
    target = replay.target
    recorded = {item.note: item for item in replay.listed}
    made = [replay.matching.ids[recorded["create"].response["id"]]]
    target.until(made[0], "Running")
    target.until(replay.matching.ids[recorded["unknown field"].response["id"]], "Running")
    replay.send(until="its jobs")
    # Long enough for two checkpoints and for the first sample of the metrics, too short for the second.
    target.wait(3.6)
    replay.send(until="all jobs")
    replay.know_job(made[0])
    _learn_jobs(replay, recorded["all jobs"])
    replay.send(until="first page of 2")
    _begin_of_a_second(target)
    pages = recorded["first page of 2"].response["data"]
    made += [replay.create(name=page["name"], recorded_as=page["id"]) for page in pages]
    replay.send(until="all jobs after deleting")
    notes = ("a second pipeline with the same name", "SQL with a leading comment")
    made += [replay.matching.ids[recorded[note].response["id"]] for note in notes]
    target.wait(1)
    replay.end(*made)
    replay.send()


def _learn_jobs(replay: Replay, item: RecordedCall) -> None:
    # A job of 0.15 does not name its pipeline: those in the list are matched by the order of their pipelines.
    notes = {other.note: other for other in replay.listed}
    owners = [notes[note].response["id"] for note in ("parallelism 0", "unknown field", "create")]
    for recorded, owner in zip(item.response["data"], owners, strict=True):
        current = replay.target.job(replay.matching.ids[owner])
        replay.matching.ids[recorded["id"]] = current["id"]


def _begin_of_a_second(target: Target) -> None:
    # Records of one second are listed in the order in which they were made, and paged as one.
    now = target.now() if target.sandbox else time.time()
    target.wait(1 - now % 1 + 0.02)


def _delete(replay: Replay) -> None:
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    replay.target.until(pipeline_id, "Running")
    replay.send(1)
    replay.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "immediate"})
    replay.target.until(pipeline_id, "Stopped")
    replay.send()


def _stop(replay: Replay) -> None:
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    replay.target.until(pipeline_id, "Running")
    replay.until_checkpoint(pipeline_id)
    replay.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    replay.target.until(pipeline_id, "Stopped")
    replay.know_job(pipeline_id)
    replay.matching.exact = True
    replay.send()


def _checkpoints(replay: Replay) -> None:
    target = replay.target
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    path = f"/pipelines/{pipeline_id}"
    target.until(pipeline_id, "Running")
    replay.know_job(pipeline_id)
    replay.until_checkpoint(pipeline_id)
    replay.matching.exact = True
    target.send("POST", f"{path}/restart", {})
    target.until(pipeline_id, "Running", run_id=2)
    replay.send(1)
    target.send("PATCH", path, {"parallelism": 2})
    target.until(pipeline_id, "Running", run_id=3)
    replay.send(1)
    target.send("PATCH", path, {"stop": "checkpoint"})
    target.until(pipeline_id, "Stopped")
    replay.send(1)
    target.send("PATCH", path, {"stop": "none"})
    target.until(pipeline_id, "Running", run_id=4)
    target.send("PATCH", path, {"stop": "immediate"})
    target.until(pipeline_id, "Stopped")
    replay.send()


def _connections(replay: Replay) -> None:
    # When this was recorded, there was another table, older than all of these.
    body = {"name": f"older_{secrets.token_hex(4)}", "connector": "impulse", "config": {"event_rate": 1}}
    assert replay.target.send("POST", "/connection_tables", body).status_code == 200
    replay.target.wait(1.1)
    replay.send()


def _metrics(replay: Replay) -> None:
    pipeline_id = replay.create(WINDOW, name="metrics", recorded_as=replay.recorded_pipeline())
    replay.target.until(pipeline_id, "Running")
    replay.know_job(pipeline_id)
    replay.target.wait(25)
    replay.send(3)
    replay.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    replay.target.until(pipeline_id, "Stopped")
    replay.send()


def _preview(replay: Replay) -> None:
    replay.send(1)
    replay.target.until(replay.matching.ids[replay.recorded_pipeline()], "Finished")
    replay.send()


def _failed(replay: Replay) -> None:
    pipeline_id = replay.create(MISSING_FILE, recorded_as=replay.recorded_pipeline())
    first = replay.target.until(pipeline_id, "Failed")
    replay.target.send("POST", f"/pipelines/{pipeline_id}/restart", {})
    replay.target.until_job(
        pipeline_id, lambda job: job["state"] == "Failed" and job["run_id"] > first["run_id"]
    )
    replay.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    replay.know_job(pipeline_id)
    replay.send()


def _worker_killed(replay: Replay) -> None:
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    target = replay.target
    assert target.sandbox is not None
    target.until(pipeline_id, "Running")
    target.sandbox.faults.kill_worker(pipeline_id)
    target.until(pipeline_id, "Running", run_id=2)
    if "worker_killed_until_failed" in replay.files:
        target.sandbox.faults.kill_worker(pipeline_id)
        target.until(pipeline_id, "Failed")
    replay.know_job(pipeline_id)
    replay.send()


def _worker_mode(replay: Replay) -> None:
    target = replay.target
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    first = target.until(pipeline_id, "Running")
    target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    target.until(pipeline_id, "Stopped")
    target.send("POST", f"/pipelines/{pipeline_id}/restart", {"ignore_state": True})
    target.until_job(pipeline_id, lambda job: job["state"] == "Running" and job["id"] != first["id"])
    target.wait(5.4)
    replay.know_job(pipeline_id)
    replay.send()


def _found_by_trying(replay: Replay) -> None:
    target = replay.target
    items = {item.note: item for item in replay.listed}
    two = replay.create(ONE_OF_TWO_ENDS, recorded_as=replay.recorded_pipeline())
    target.until(two, "Finishing")
    replay.matching.ids[replay.listed[0].path.split("/")[4]] = target.job(two)["id"]
    target.wait(3)
    replay.send(1)
    note = "job after restart and force stop"
    stopped = replay.create(recorded_as=items[note].path.split("/")[2])
    path = f"/pipelines/{stopped}"
    target.until(stopped, "Running")
    replay.know_job(stopped)
    replay.until_checkpoint(stopped)
    target.send("PATCH", path, {"stop": "checkpoint"})
    target.until(stopped, "Stopped")
    target.send("PATCH", path, {"stop": "none"})
    target.until(stopped, "Running")
    target.wait(4)
    target.send("POST", f"{path}/restart", {})
    target.until(stopped, "Running", run_id=3)
    target.wait(4)
    target.send("PATCH", path, {"stop": "force"})
    target.until(stopped, "Stopped")
    replay.send()


def _deploy(replay: Replay) -> None:
    target = replay.target
    items = {item.note: item for item in replay.listed}
    first = replay.listed[0].response
    patched = replay.create(first["query"], recorded_as=replay.recorded_pipeline(), name=first["name"])
    target.until(patched, "Running")
    replay.send(1)
    target.wait(1.5)
    replay.send(until="checkpoints after stop and resume")
    resumed = replay.create(TUMBLING)
    path = items["checkpoints after stop and resume"].path
    replay.matching.ids[path.split("/")[2]] = resumed
    target.until(resumed, "Running")
    replay.matching.ids[path.split("/")[4]] = target.job(resumed)["id"]
    replay.until_checkpoint(resumed)
    target.send("PATCH", f"/pipelines/{resumed}", {"stop": "checkpoint"})
    target.until(resumed, "Stopped")
    target.send("PATCH", f"/pipelines/{resumed}", {"stop": "none"})
    target.until(resumed, "Running")
    target.wait(6)
    replay.send(1)
    if "put" not in items:
        return
    replay.send(1)
    own = replay.matching.ids["deploy-id"]
    target.until(own, "Running")
    replay.until_checkpoint(own)
    target.send("PATCH", f"/pipelines/{own}", {"stop": "checkpoint"})
    target.until(own, "Stopped")
    replay.send(until="its job, another one")
    target.until(own, "Running")
    replay.send(1)
    target.wait(3.4)
    replay.send()


def _straight(replay: Replay) -> None:
    replay.send()


@dataclass(frozen=True)
class Situation:
    """Recordings that belong together, and how to recreate their situation.

    :param needs: what a server must be able to do: ``sandbox`` (takes faults), ``worker`` or ``controller``
        (who leads jobs), ``key``, ``restarts`` (allowed-restarts 2 on 0.15), ``whole`` (nothing).
    """

    files: tuple[str, ...]
    act: Callable[[Replay], None]
    needs: str = "whole"


SITUATIONS = (
    Situation(("errors_and_validation", "pipeline_calls"), _calls),
    Situation(("put",), _straight),
    Situation(("delete",), _delete),
    Situation(("stop_with_checkpoint",), _stop),
    Situation(("checkpoints_of_restart_rescale_stop",), _checkpoints),
    Situation(("connections",), _connections),
    Situation(("connectors",), _straight),
    Situation(("metrics",), _metrics),
    Situation(("preview",), _preview),
    Situation(("failed_pipeline",), _failed, "restarts"),
    Situation(("worker_killed_errors",), _worker_killed, "sandbox"),
    Situation(("worker_killed_until_failed",), _worker_killed, "sandbox"),
    Situation(("worker_mode",), _worker_mode, "worker"),
    Situation(("auth_static_api_key",), _straight, "key"),
    Situation(("found_by_trying",), _found_by_trying),
    Situation(("deploy_calls",), _deploy),
)


def replay(target: Target, situation: Situation) -> list[Outcome]:
    """Send the calls of a situation again, without those that this version's recording lacks."""
    there = recordings.call_files(target.version)
    files = tuple(file for file in situation.files if file in there)
    run = Replay(target, files)
    total = sum(len(recordings.calls(target.version, file)) for file in files)
    try:
        situation.act(run)
    except AssertionError as error:
        run.outcomes.append(Outcome(f"{'+'.join(files)}: the situation", [str(error)]))
    if len(run.outcomes) < total:
        run.outcomes.append(Outcome(f"{'+'.join(files)}: {total - len(run.outcomes)} calls", ["not sent"]))
    return run.outcomes
