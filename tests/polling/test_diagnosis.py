"""What is wrong with a pipeline: every kind, as a sandbox of each version shows it, on a manual clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import Metric, MetricGroup, OperatorMetrics, SubtaskMetrics
from airflow_provider_arroyo.client.models import StopMode
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.diagnosis import Diagnosis, Kind, diagnose
from airflow_provider_arroyo.polling.evidence import gather
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.support import ENDLESS

MISSING_FILE = """\
CREATE TABLE input (n BIGINT) WITH
  (connector = 'single_file', path = '/nonexistent/input.json', format = 'json', type = 'source');
CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');
INSERT INTO sink SELECT n FROM input;"""
BOUNDED = ENDLESS.replace("event_rate = '10'", "event_rate = '10', message_count = '5'")


class Patient:
    """A pipeline, and what is said of it."""

    def __init__(self, sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
        self.sandbox = sandbox
        self.client = client
        self.id = ""

    def submit(self, query: str = ENDLESS, *, seconds: float = 30.0) -> Patient:
        self.id = self.client.create_pipeline(name="orders", query=query).id
        self.sandbox.advance(seconds)
        return self

    def diagnosed(self, *, observe_seconds: float = 0.0) -> Diagnosis:
        elapsed = 0.0

        def sleep(seconds: float) -> None:
            nonlocal elapsed
            elapsed += seconds
            self.sandbox.advance(seconds)

        evidence = gather(
            self.client,
            self.id,
            observe_seconds=observe_seconds,
            sleep=sleep,
            monotonic=lambda: elapsed,
        )
        return diagnose(evidence)


@pytest.fixture(params=["0.15", "0.16"])
def patient(request: pytest.FixtureRequest) -> Iterator[Patient]:
    with (
        ArroyoSandbox(
            arroyo_version=request.param, clock=ManualClock(), seed=3, allowed_restarts=2
        ) as sandbox,
        ArroyoClient(ClientSettings(base_url=sandbox.url)) as client,
    ):
        yield Patient(sandbox, client)


def check(diagnosis: Diagnosis, kind: Kind, *words: str) -> None:
    assert diagnosis.kind is kind, diagnosis
    for word in words:
        assert word in str(diagnosis)
    assert diagnosis.advice


def test_a_pipeline_whose_checkpoints_finish_is_healthy(patient: Patient) -> None:
    diagnosis = patient.submit().diagnosed()
    check(diagnosis, Kind.HEALTHY, "Running, run 1", "last checkpoint finished")
    assert not diagnosis.is_problem


def test_one_that_has_just_begun_is_starting(patient: Patient) -> None:
    check(patient.submit(seconds=0).diagnosed(), Kind.STARTING)
    patient.sandbox.advance(1)
    check(patient.diagnosed(), Kind.STARTING, "Running, run 1; its first checkpoint has not finished yet")


def test_stopped_and_finished_ones_are_no_problem(patient: Patient) -> None:
    patient.submit()
    patient.client.patch_pipeline(patient.id, stop=StopMode.CHECKPOINT)
    check(patient.diagnosed(), Kind.STOPPING, "asked to stop")
    patient.sandbox.advance(5)
    check(patient.diagnosed(), Kind.STOPPED)
    check(patient.submit(BOUNDED).diagnosed(), Kind.FINISHED)


def test_no_controller(patient: Patient) -> None:
    patient.sandbox.faults.controller_away()
    check(patient.submit(seconds=20).diagnosed(), Kind.STARTING)
    patient.sandbox.advance(20)
    check(patient.diagnosed(), Kind.NO_CONTROLLER, "no controller has picked it up", "Arroyo's controller")


def test_one_that_is_never_scheduled(patient: Patient) -> None:
    patient.sandbox.faults.never_starts()
    check(patient.submit(seconds=90).diagnosed(), Kind.NOT_SCHEDULED, "has never run")


def test_a_broker_that_is_away(patient: Patient) -> None:
    patient.sandbox.faults.kafka_away()
    check(patient.submit(seconds=15).diagnosed(), Kind.STARTING)
    patient.sandbox.advance(60)
    diagnosis = patient.diagnosed()
    check(diagnosis, Kind.BROKER_UNREACHABLE, "cannot reach its broker", "afka consumer")
    assert diagnosis.is_problem


def test_a_missing_file(patient: Patient) -> None:
    diagnosis = patient.submit(MISSING_FILE).diagnosed()
    if patient.sandbox.arroyo_version == "0.15":
        # That version tells no cause anywhere.
        check(diagnosis, Kind.FAILED, "restarted too many times")
    else:
        check(diagnosis, Kind.FILE_MISSING, "/nonexistent/input.json", "domain: user")


def test_one_that_restarts_again_and_again_shows_only_while_it_is_observed(patient: Patient) -> None:
    patient.submit()
    patient.sandbox.faults.flap()
    check(patient.diagnosed(observe_seconds=5), Kind.FLAPPING, "does not keep running")


def test_checkpoints_that_stop_coming(patient: Patient) -> None:
    patient.submit()
    evidence = gather(patient.client, patient.id)
    check(diagnose(replace(evidence, now=evidence.now + 50)), Kind.HEALTHY)
    check(diagnose(replace(evidence, now=evidence.now + 90)), Kind.NO_CHECKPOINT, "One is due every 10.0 s")
    never = replace(evidence, now=evidence.now + 90, checkpoints=())
    check(diagnose(never), Kind.NO_CHECKPOINT, "it has no finished checkpoint")


def test_an_operator_that_holds_the_others_back(patient: Patient) -> None:
    evidence = gather(patient.submit().client, patient.id)
    node = evidence.pipeline.graph.nodes[-1]

    def backpressure(*values: float) -> tuple[OperatorMetrics, ...]:
        metrics = tuple(Metric(number, value) for number, value in enumerate(values))
        group = MetricGroup("backpressure", (SubtaskMetrics(0, metrics),))
        return (OperatorMetrics(node.node_id, (group,)),)

    check(diagnose(replace(evidence, metrics=backpressure(0.1, 0.97))), Kind.LAGGING, node.description, "97%")
    check(diagnose(replace(evidence, metrics=backpressure(0.97, 0.1))), Kind.HEALTHY)


def test_one_without_a_job(patient: Patient) -> None:
    evidence = gather(patient.submit().client, patient.id)
    check(diagnose(replace(evidence, jobs=())), Kind.NO_JOB, "has no job")


def test_an_error_that_is_over_is_not_what_is_wrong_now(patient: Patient) -> None:
    patient.sandbox.faults.kafka_away()
    patient.submit(seconds=60)
    patient.sandbox.faults.clear()
    patient.sandbox.advance(120)
    check(patient.diagnosed(), Kind.HEALTHY)


def test_a_pipeline_that_is_not_there(patient: Patient) -> None:
    patient.id = "pl_nothing"
    with pytest.raises(ArroyoNotFoundError):
        patient.diagnosed()
