"""Every kind of diagnosis, on a sandbox with a manual clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from airflow_provider_arroyo import evidence as evidence_module
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import Metric, MetricGroup, OperatorMetrics, SubtaskMetrics
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.evidence import gather, gather_for_error
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoNotFoundError,
    ArroyoUnreachableError,
)
from airflow_provider_arroyo.monitoring.diagnosis import Diagnosis, Evidence, Kind, diagnose
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from airflow_provider_arroyo.sandbox.fault_types import KINDS
from tests import canaries
from tests.support import BROKEN, ENDLESS

BOUNDED = ENDLESS.replace("event_rate = '10'", "event_rate = '10', message_count = '5'")


class Pipeline:
    """A pipeline, and its diagnosis."""

    def __init__(self, sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
        self.sandbox = sandbox
        self.client = client
        self.id = ""

    def submit(self, query: str = ENDLESS, *, seconds: float = 30.0) -> Pipeline:
        self.id = self.client.create_pipeline(name="orders", query=query).id
        self.sandbox.advance(seconds)
        return self

    def diagnosed(self, *, observe_seconds: float = 0.0) -> Diagnosis:
        return diagnose(gather(self.client, self.id, observe_seconds=observe_seconds))


class AdvancingClient(ArroyoClient):
    """A client whose pauses take no time: they advance the sandbox and its own clock."""

    def __init__(self, sandbox: ArroyoSandbox, **settings: Any) -> None:
        slept = 0.0

        def sleep(seconds: float) -> None:
            nonlocal slept
            slept += seconds
            sandbox.advance(seconds)

        settings["base_url"] = sandbox.url
        super().__init__(ClientSettings(**settings), sleep=sleep, clock=lambda: time.monotonic() + slept)


@pytest.fixture
def pipeline(request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    with (
        ArroyoSandbox(
            arroyo_version=getattr(request, "param", "0.16"), clock=ManualClock(), seed=3, allowed_restarts=2
        ) as sandbox,
        AdvancingClient(sandbox) as client,
    ):
        yield Pipeline(sandbox, client)


def check(diagnosis: Diagnosis, kind: Kind, *words: str) -> None:
    assert diagnosis.kind is kind, diagnosis
    for word in words:
        assert word in str(diagnosis)
    assert diagnosis.advice


@pytest.mark.parametrize("pipeline", ["0.15", "0.16"], indirect=True)
def test_a_pipeline_whose_checkpoints_finish_is_healthy(pipeline: Pipeline) -> None:
    diagnosis = pipeline.submit().diagnosed()
    check(diagnosis, Kind.HEALTHY, "Running, run 1", "last checkpoint finished")
    assert not diagnosis.is_problem


def test_a_pipeline_that_has_just_begun_is_starting(pipeline: Pipeline) -> None:
    check(pipeline.submit(seconds=0).diagnosed(), Kind.STARTING)
    pipeline.sandbox.advance(1)
    check(pipeline.diagnosed(), Kind.STARTING, "Running, run 1; its first checkpoint has not finished yet")


def test_stopped_and_finished_pipelines_have_no_problem(pipeline: Pipeline) -> None:
    pipeline.submit()
    pipeline.client.patch_pipeline(pipeline.id, stop=StopMode.CHECKPOINT)
    check(pipeline.diagnosed(), Kind.STOPPING, "asked to stop")
    pipeline.sandbox.advance(5)
    check(pipeline.diagnosed(), Kind.PAUSED, "continues from checkpoint")
    check(pipeline.submit(BOUNDED).diagnosed(), Kind.FINISHED)


def test_a_pipeline_without_a_controller(pipeline: Pipeline) -> None:
    pipeline.sandbox.faults.controller_away()
    check(pipeline.submit(seconds=20).diagnosed(), Kind.STARTING)
    pipeline.sandbox.advance(20)
    check(pipeline.diagnosed(), Kind.NO_CONTROLLER, "no controller has picked it up", "Arroyo's controller")


def test_a_pipeline_that_is_never_scheduled(pipeline: Pipeline) -> None:
    pipeline.sandbox.faults.never_starts()
    check(pipeline.submit(seconds=90).diagnosed(), Kind.NOT_SCHEDULED, "has never run")


@pytest.mark.parametrize("pipeline", ["0.15", "0.16"], indirect=True)
def test_an_unreachable_broker(pipeline: Pipeline) -> None:
    pipeline.sandbox.faults.kafka_away()
    check(pipeline.submit(seconds=15).diagnosed(), Kind.STARTING)
    pipeline.sandbox.advance(60)
    diagnosis = pipeline.diagnosed()
    check(diagnosis, Kind.BROKER_UNREACHABLE, "cannot reach its broker", "afka consumer")
    assert diagnosis.is_problem


@pytest.mark.parametrize("pipeline", ["0.15", "0.16"], indirect=True)
def test_a_missing_file(pipeline: Pipeline) -> None:
    diagnosis = pipeline.submit(BROKEN).diagnosed()
    if pipeline.sandbox.arroyo_version == "0.15":
        # This version reports no cause.
        check(diagnosis, Kind.FAILED, "restarted too many times")
    else:
        check(diagnosis, Kind.FILE_MISSING, "/nonexistent/input.json", "domain: user")


def test_flapping_is_detected_only_by_observing(pipeline: Pipeline) -> None:
    pipeline.submit()
    pipeline.sandbox.faults.flap()
    check(pipeline.diagnosed(observe_seconds=5), Kind.FLAPPING, "keeps restarting")


def test_missing_checkpoints(pipeline: Pipeline) -> None:
    pipeline.submit()
    evidence = gather(pipeline.client, pipeline.id)
    check(diagnose(replace(evidence, now=evidence.now + 50)), Kind.HEALTHY)
    check(diagnose(replace(evidence, now=evidence.now + 90)), Kind.NO_CHECKPOINT, "One is due every 10.0 s")
    never = replace(evidence, now=evidence.now + 90, checkpoints=())
    check(diagnose(never), Kind.NO_CHECKPOINT, "it has no finished checkpoint")


def test_an_operator_with_backpressure(pipeline: Pipeline) -> None:
    evidence = gather(pipeline.submit().client, pipeline.id)
    node = evidence.pipeline.graph.nodes[-1]

    def backpressure(*values: float) -> tuple[OperatorMetrics, ...]:
        metrics = tuple(Metric(number, value) for number, value in enumerate(values))
        group = MetricGroup("backpressure", (SubtaskMetrics(0, metrics),))
        return (OperatorMetrics(node.node_id, (group,)),)

    check(diagnose(replace(evidence, metrics=backpressure(0.1, 0.97))), Kind.LAGGING, node.description, "97%")
    check(diagnose(replace(evidence, metrics=backpressure(0.97, 0.1))), Kind.HEALTHY)


def test_a_pipeline_without_a_job(pipeline: Pipeline) -> None:
    evidence = gather(pipeline.submit().client, pipeline.id)
    check(diagnose(replace(evidence, jobs=())), Kind.NO_JOB, "has no job")


def test_an_old_error_is_not_the_current_problem(pipeline: Pipeline) -> None:
    pipeline.sandbox.faults.kafka_away()
    pipeline.submit(seconds=60)
    pipeline.sandbox.faults.clear()
    pipeline.sandbox.advance(120)
    check(pipeline.diagnosed(), Kind.HEALTHY)


def test_a_missing_pipeline(pipeline: Pipeline) -> None:
    pipeline.id = "pl_nothing"
    with pytest.raises(ArroyoNotFoundError):
        pipeline.diagnosed()


@pytest.mark.parametrize("pipeline", ["0.15", "0.16"], indirect=True)
def test_echoes_of_the_pipeline_are_shown_without_its_secrets(pipeline: Pipeline) -> None:
    sql = canaries.TABLES["redis"] + canaries.TABLES["mqtt"] + canaries.TABLES["webhook"]
    pipeline.submit(f"{sql}\n{ENDLESS}", seconds=30)
    pipeline.sandbox.faults.fail(pipeline.id, error=f"refused: {' and '.join(canaries.leaked(sql))}")
    pipeline.sandbox.advance(30)
    text = str(pipeline.diagnosed())
    assert "refused: *** and ***" in text
    assert not canaries.leaked(text)
    job = pipeline.client.get_job(pipeline.id)
    assert job is not None
    evidence = gather_for_error(pipeline.client, PipelineRef(pipeline_id=pipeline.id), job)
    assert evidence.jobs[-1].failure is not None
    assert not canaries.leaked(f"{evidence.jobs[-1].failure.error}{evidence.errors}")
    page = f"<html>{' and '.join(canaries.leaked(sql))}"
    pipeline.sandbox.faults.not_json(body=page, content_type="text/html", path="*/errors*", times=None)
    evidence = gather_for_error(pipeline.client, PipelineRef(pipeline_id=pipeline.id), job)
    assert "<html>*** and ***" in evidence.unread["errors"]
    assert not canaries.leaked(evidence.unread["errors"])


@pytest.mark.parametrize("is_passed_on", [False, True])
def test_errors_do_not_show_the_environment_of_a_job_that_another_process_saw(
    is_passed_on: bool, pipeline: Pipeline
) -> None:
    secret = canaries.planted("{}")
    made = pipeline.client.create_pipeline(name="orders", query=ENDLESS, env_vars={"LOGIN": secret})
    pipeline.id = made.id
    pipeline.sandbox.faults.fail(made.id, error=f"refused: {secret}")
    pipeline.sandbox.advance(30)
    job = pipeline.client.get_job(made.id)
    assert job is not None
    assert job.failure is not None
    assert job.failure.error == "refused: ***"
    if is_passed_on:
        job = replace(job, env_vars={})
    evidence = gather_for_error(pipeline.client, PipelineRef(pipeline_id=made.id), job)
    assert "refused: ***" in str(evidence.errors)
    assert not canaries.leaked(str(evidence.errors))


def test_sql_that_arroyo_no_longer_accepts(pipeline: Pipeline) -> None:
    pipeline.submit()
    pipeline.sandbox.faults.fail("orders", error="worker left")
    pipeline.sandbox.advance(30)
    check(pipeline.diagnosed(), Kind.FAILED)
    evidence = gather(pipeline.client, pipeline.id)
    check(
        diagnose(replace(evidence, refusals=("table 'x' not found",))),
        Kind.SQL_REFUSED,
        "table 'x' not found",
    )
    # For example, a table of the catalog was deleted: the planner is asked again.
    pipeline.sandbox.faults.status(400, error="Error during planning: no", path="*/validate_query")
    check(pipeline.diagnosed(), Kind.FAILED)


# -- every fault of the sandbox -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A fault, and the diagnosis while it lasts.

    :param fields: of the fault.
    :param seconds: how long it lasts before the diagnosis.
    :param observe: how long the pipeline is observed.
    :param is_first: whether it is injected before the pipeline is created.
    """

    kind: Kind | type[Exception]
    fields: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    observe: float = 0.0
    is_first: bool = False


UNREACHABLE = (ArroyoConnectionError, ArroyoUnreachableError)
FAULTS: dict[str, Fault] = {
    # One bad response is retried and is no sign of a problem with the pipeline.
    "status": Fault(Kind.HEALTHY, {"status": 503}),
    "latency": Fault(Kind.HEALTHY, {"seconds": 0.05}),
    "early_hints": Fault(Kind.HEALTHY),
    "reset": Fault(Kind.HEALTHY),
    "hang_up": Fault(Kind.HEALTHY),
    "hang": Fault(Kind.HEALTHY),
    "endless": Fault(Kind.HEALTHY),
    "cut_short": Fault(Kind.HEALTHY),
    "not_json": Fault(Kind.HEALTHY),
    "api_away": Fault(ArroyoConnectionError),
    "controller_away": Fault(Kind.NO_CONTROLLER, seconds=60.0, is_first=True),
    "server_restart": Fault(Kind.RECOVERING, {"seconds": 1.0}, seconds=1.0, observe=5.0),
    # After its next checkpoint has finished by the new clock.
    "clock_skew": Fault(Kind.HEALTHY, {"seconds": 7200.0}, seconds=30.0),
    "fail": Fault(Kind.FAILED, seconds=30.0),
    "flap": Fault(Kind.FLAPPING, {"runs": 9, "every": 0.2}, observe=10.0),
    "kafka_away": Fault(Kind.BROKER_UNREACHABLE, seconds=60.0, is_first=True),
    "late_pickup": Fault(Kind.STARTING, {"seconds": 20.0}, seconds=10.0, is_first=True),
    "never_starts": Fault(Kind.NOT_SCHEDULED, seconds=90.0, is_first=True),
    # A state that only a later version has counts as progress.
    "show_state": Fault(Kind.STARTING, {"state": "Hibernating"}, seconds=1.0),
    "traffic": Fault(Kind.LAGGING, {"backpressure": 0.97}, seconds=60.0),
    "kill_worker": Fault(Kind.RECOVERING, observe=3.0),
    "delete": Fault(ArroyoNotFoundError),
    "stop": Fault(Kind.PAUSED, seconds=10.0),
}


@pytest.fixture
def short_timeouts() -> Iterator[Pipeline]:
    """A pipeline, and a client with short timeouts."""
    with (
        ArroyoSandbox(clock=ManualClock(), seed=3) as sandbox,
        AdvancingClient(sandbox, connect_timeout_seconds=2, read_timeout_seconds=2) as client,
    ):
        yield Pipeline(sandbox, client)


def test_the_table_names_every_fault() -> None:
    assert FAULTS.keys() == KINDS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_has_its_diagnosis(name: str, short_timeouts: Pipeline) -> None:
    fault, pipeline = FAULTS[name], short_timeouts
    if fault.is_first:
        pipeline.sandbox.faults.inject(name, **fault.fields)
        pipeline.submit(seconds=fault.seconds)
    else:
        pipeline.submit()
        pipeline.sandbox.faults.inject(name, **fault.fields)
        pipeline.sandbox.advance(fault.seconds)
    if isinstance(fault.kind, Kind):
        check(pipeline.diagnosed(observe_seconds=fault.observe), fault.kind)
        return
    pipeline.client = pipeline.client.with_limits(max_elapsed_seconds=0.2)
    with pytest.raises(UNREACHABLE if fault.kind is ArroyoConnectionError else fault.kind):
        pipeline.diagnosed()


@pytest.mark.parametrize(
    "route, kind, message",
    [
        ("checkpoints", Kind.UNKNOWN, "Running, run 1; whether data flows cannot be determined."),
        ("errors", Kind.HEALTHY, "last checkpoint finished"),
        ("operator_metric_groups", Kind.HEALTHY, "last checkpoint finished"),
    ],
)
@pytest.mark.parametrize("status", [403, 500])
def test_data_that_a_gateway_withholds_is_named_and_does_not_count_as_empty(
    status: int, route: str, kind: Kind, message: str, pipeline: Pipeline
) -> None:
    pipeline.submit()
    pipeline.client = pipeline.client.with_limits(max_elapsed_seconds=0.2)
    pipeline.sandbox.faults.status(status, path=f"*/{route}*", times=None)
    what = "metrics" if route == "operator_metric_groups" else route
    check(pipeline.diagnosed(), kind, message, f"Its {what} cannot be read: ", f"({status})")
    assert "unreachable" not in str(pipeline.diagnosed())


def test_a_failure_is_reported_if_nothing_else_can_be_read(pipeline: Pipeline) -> None:
    pipeline.submit()
    pipeline.sandbox.faults.fail("orders", error="worker left")
    pipeline.sandbox.advance(30)
    pipeline.client = pipeline.client.with_limits(max_elapsed_seconds=0.0)
    pipeline.sandbox.faults.status(500, path="*/jobs/*", times=None)
    check(pipeline.diagnosed(), Kind.FAILED, "worker left", "Its checkpoints cannot be read")


def test_unreadable_checkpoints_of_a_stopped_pipeline_do_not_count_as_missing(pipeline: Pipeline) -> None:
    pipeline.submit()
    pipeline.client.patch_pipeline(pipeline.id, stop=StopMode.CHECKPOINT)
    pipeline.sandbox.advance(10)
    pipeline.client = pipeline.client.with_limits(max_elapsed_seconds=0.0)
    pipeline.sandbox.faults.reset(path="*/checkpoints", times=None)
    diagnosis = pipeline.diagnosed()
    check(diagnosis, Kind.STOPPED, "Its checkpoints cannot be read")
    assert diagnosis.summary == "Stopped, as requested."


# -- for the error of a wait --------------------------------------------------------------------------------------


def explained(
    pipeline: Pipeline, inject: Callable[[Pipeline], object] = lambda one: None
) -> tuple[Evidence, int]:
    """Inject a fault, and return the evidence for an error and the number of requests."""
    job = pipeline.client.get_job(pipeline.id)
    assert job is not None
    inject(pipeline)
    before = pipeline.sandbox.requests.total
    ref = PipelineRef(pipeline_id=pipeline.id, name="orders")
    evidence = gather_for_error(pipeline.client, ref, job)
    return evidence, pipeline.sandbox.requests.total - before


def test_gathering_for_an_error_is_one_round_of_requests(pipeline: Pipeline) -> None:
    evidence, requests = explained(pipeline.submit())
    check(diagnose(evidence), Kind.HEALTHY)
    assert (dict(evidence.unread), requests) == ({}, 5)


@pytest.mark.parametrize(
    "unread, inject",
    [
        ("checkpoints", lambda one: one.sandbox.faults.status(500, path="*/checkpoints", times=None)),
        ("errors", lambda one: one.sandbox.faults.reset(path="*/errors*", times=None)),
        ("metrics", lambda one: one.sandbox.faults.not_json(path="*/operator_metric_groups", times=None)),
        ("definition", lambda one: one.sandbox.faults.status(500, path=f"*/pipelines/{one.id}", times=None)),
    ],
)
def test_unreadable_parts_are_named_after_one_try(
    unread: str, inject: Callable[[Pipeline], object], pipeline: Pipeline
) -> None:
    evidence, requests = explained(pipeline.submit(), inject)
    assert (list(evidence.unread), requests) == ([unread], 5)
    assert diagnose(evidence).kind is not Kind.NO_CHECKPOINT


def test_what_is_gone_does_not_hide_the_rest(pipeline: Pipeline) -> None:
    """For example the job, which a restart without state has replaced."""
    gone = partial(pipeline.submit().sandbox.faults.status, 404, error="Job not found", times=None)
    evidence, _ = explained(pipeline, lambda _: gone(path="*/checkpoints"))
    assert list(evidence.unread) == ["checkpoints"]
    assert evidence.metrics
    assert list(gather(pipeline.client, pipeline.id).unread) == ["checkpoints"]


def test_a_hanging_server_delays_an_error_only_up_to_the_limit(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_module, "EXPLAIN_SECONDS", 0.5)
    began = time.monotonic()
    evidence, _ = explained(
        pipeline.submit(), lambda one: one.sandbox.faults.hang(path="*/errors*", times=None)
    )
    # The margin is for a busy machine; the read timeout is 30 seconds.
    assert time.monotonic() - began < 20
    assert set(evidence.unread) >= {"errors", "checkpoints"}
    assert evidence.errors == ()
