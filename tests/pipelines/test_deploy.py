"""Every initial state and every kind of change: the action, the requests, and what runs at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.pipelines.ownership import without_label
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.pipelines.deploy_bench import SECOND, SPEC, DeployBench, open_deploy_bench
from tests.support import BOUNDED, KilledError

UDF = Udf("#[udf]\nfn double(x: i64) -> i64 { 2 * x }")

STATES: dict[str, tuple[str | float, ...]] = {
    "starting": (),
    "running": ("Running", 3.0),
    "stopping": ("Running", 3.0, "stop"),
    "stopped": ("Running", 3.0, "stop", "Stopped"),
    "failed": ("Running", 3.0, "fail", 10.0),
    "finished": (),
}
CHANGES: dict[str, Callable[[PipelineSpec], PipelineSpec]] = {
    "none": lambda spec: replace(spec, query=spec.query + "  \r\n\n"),
    "tags": lambda spec: replace(spec, tags={"team": "b"}),
    "interval": lambda spec: replace(spec, checkpoint_interval=timedelta(seconds=2)),
    "parallelism": lambda spec: replace(spec, parallelism=3),
    "both": lambda spec: replace(spec, parallelism=3, checkpoint_interval=timedelta(seconds=2)),
    "env_vars": lambda spec: replace(spec, env_vars={"A": "1"}),
    "SQL": lambda spec: replace(
        spec, query=spec.query.replace("impulse", "pulse_of").replace("'pulse_of'", "'impulse'")
    ),
    "UDF": lambda spec: replace(spec, udfs=(UDF,)),
    "SQL and parallelism": lambda spec: replace(SECOND, parallelism=2),
}
REPLACES = ("SQL", "UDF", "SQL and parallelism")
PATCHES = {
    "interval": "checkpoint_interval_micros",
    "parallelism": "parallelism",
    "both": "checkpoint_interval_micros,parallelism",
    "env_vars": "env_vars",
}


def _expected(version: str, state: str, change: str) -> tuple[str, list[str]]:
    """Return the expected action, and the requests that change something."""
    create = "POST" if version == "0.15" else "PUT"
    # On 0.15, a PUT is tried first.
    creates = ["PUT", "POST"] if version == "0.15" else [create]
    patch = PATCHES.get(change, "")
    if change in REPLACES:
        stops = ["PATCH stop=checkpoint"] if state in ("starting", "running", "stopping") else []
        return "replaced", [*stops, *creates, "DELETE"]
    if state == "finished":
        return "unchanged", []
    if state in ("stopped", "stopping"):
        return "resumed", [f"PATCH {','.join(sorted([*filter(None, patch.split(',')), 'stop']))}=none"]
    if state == "failed":
        fields = sorted([*filter(None, patch.split(",")), "stop"])
        return "restarted", [*([f"PATCH {','.join(fields)}=none"] if patch else []), "POST/restart"]
    if patch:
        return "updated", [f"PATCH {patch}"]
    return ("created" if state == "starting" else "unchanged"), []


def _arrange(bench: DeployBench, state: str, change: str) -> PipelineSpec:
    # A restart that meets a checkpoint needs another one; a new environment restarts.
    spec = replace(SPEC, checkpoint_interval=timedelta(seconds=20)) if change == "env_vars" else SPEC
    if state == "finished":
        spec = replace(spec, query=BOUNDED)

    # Bounded pipelines end too soon for a checkpoint; the first deploy has to leave one.
    def stop_here(_: Any) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        bench.deploy(spec, at_wait=stop_here)
    (pipeline,) = bench.pipelines()
    bench.change(pipeline.id, *(STATES[state] if state != "finished" else ("Finished",)))
    bench.lines.lines.clear()
    return spec


CASES = [
    (version, state, change)
    for version in ("0.15", "0.16")
    for state in STATES
    for change in CHANGES
    if version == "0.16" or (change != "env_vars" and (state == "running" or change == "SQL"))
]
"""All on 0.16; on 0.15, which differs in its requests, each state with new SQL, and each change while running."""


@pytest.mark.parametrize("version,state,change", CASES)
def test_every_state_and_every_change(version: str, state: str, change: str) -> None:
    # Both modes occur with every state and every change, but not with every pair.
    is_deferred = (list(STATES).index(state) + list(CHANGES).index(change)) % 2 == 0
    with open_deploy_bench(version) as bench:
        spec = CHANGES[change](_arrange(bench, state, change))
        before = bench.pipelines()[0]
        bench.sandbox.requests.clear()
        done = bench.deploy(spec, is_deferred=is_deferred)
        action, requests = _expected(version, state, change)
        assert (done.progress.action, bench.changes_sent()) == (action, requests)
        if action == "unchanged":
            assert len(bench.sandbox.requests) <= 2
        _check_end(bench, spec, done, before)
        log = bench.lines.text("INFO")
        assert log.startswith(f"Plan, {action}: orders (found generation 1 ({before.id}, ")
        assert ("Differs, but is only applied at the next replace: tags: team" in log) == (change == "tags")


def _check_end(bench: DeployBench, spec: PipelineSpec, done: Any, before: Pipeline) -> None:
    (only,) = bench.pipelines()
    assert done.pipeline.pipeline_id == only.id
    assert (done.job.state in ("Running", "Finishing")) or before.query.endswith(BOUNDED)
    assert without_label(only.query).rstrip() == spec.query.rstrip()
    assert tuple(udf.definition for udf in only.udfs) == tuple(udf.definition for udf in spec.udfs)
    if done.job.state != "Finished":
        assert only.graph.parallelism == spec.parallelism
        interval = spec.checkpoint_interval or timedelta(0)
        assert only.checkpoint_interval_micros == interval.total_seconds() * 1e6
        assert bench.states() == {only.id: done.job.state}
    is_replaced = done.progress.action == "replaced"
    assert (only.id != before.id) == is_replaced
    if is_replaced:
        assert {one["argument"] for one in done.progress.changes} >= {"udfs" if spec.udfs else "query"}


class Store(dict[str, Any]):
    """What Airflow stores between the tries of a task."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def _kill(_: Any) -> None:
    raise KilledError


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("run_id", [1, 2], ids=["running", "recovering"])
def test_a_retry_waits_for_the_run_that_the_first_try_requested(run_id: int, version: str) -> None:
    """While Arroyo's controller is down, a pipeline has its new settings, but the old run continues without them."""
    with open_deploy_bench(version, allowed_restarts=5) as bench:
        old, notes, wanted = bench.deployed(), Store(), replace(SPEC, parallelism=2)
        if run_id == 2:
            bench.sandbox.faults.kill_worker(old.id)
            while bench.job(old.id).state == "Running":
                bench.sandbox.advance(0.05)
        client = bench.new_client(
            before=lambda request: (
                bench.sandbox.faults.controller_away(20) if request.method == "PATCH" else None
            )
        )
        with pytest.raises(KilledError):
            bench.deploy(wanted, notes=notes, client=client, at_wait=_kill, until_checkpoint=False)
        assert bench.job(old.id).run_id == run_id
        done = bench.deploy(wanted, notes=notes, try_number=2, until_checkpoint=False)
        assert (done.progress.action, done.progress.changes[0]["argument"]) == ("updated", "parallelism")
        assert done.job is not None
        assert (done.job.run_id, done.job.state) == (run_id + 1, "Running")
        # After a success, nothing is left to wait for.
        assert bench.deploy(wanted, notes=notes, try_number=3).progress.action == "unchanged"


def test_a_note_of_other_settings_is_ignored() -> None:
    with open_deploy_bench("0.16") as bench:
        bench.deployed()
        notes = Store()
        client = bench.new_client(
            before=lambda request: _kill(request) if request.method == "PATCH" else None
        )
        with pytest.raises(KilledError):
            bench.deploy(replace(SPEC, parallelism=2), notes=notes, client=client)
        assert notes
        assert bench.deploy(notes=notes, try_number=2).progress.action == "unchanged"
