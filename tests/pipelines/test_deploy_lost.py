"""Creates of a deploy that arrive late or twice, and changes whose response is lost: one pipeline is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import requests

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.exceptions import ArroyoDeployError, ArroyoError, ArroyoQueryError
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.pipelines.bench import endpoint
from tests.pipelines.deploy_bench import BROKEN, OTHER_TASK, SECOND, SPEC, DeployBench, open_deploy_bench
from tests.pipelines.test_submit_lost import LateCreate

FIRST_OR_SECOND = pytest.mark.parametrize("spec", [SPEC, SECOND], ids=["first", "replace"])
IS_DEFERRED = pytest.mark.parametrize("is_deferred", [False, True], ids=["worker", "deferred"])


class Repeat:
    """A gateway that sends the first create twice: at once, or seconds later."""

    def __init__(self, bench: DeployBench, seconds: float) -> None:
        self._bench, self._seconds = bench, seconds
        self.client = bench.new_client(before=self._before)
        self._request: requests.PreparedRequest | None = None
        self._due = 0.0
        self.has_repeated = False

    def _before(self, request: requests.PreparedRequest) -> None:
        if self._request is None and endpoint(request) == "POST /pipelines":
            self._request, self._due = request.copy(), self._bench.now() + self._seconds
        if self._request is not None and not self.has_repeated and self._bench.now() >= self._due:
            self.has_repeated = True
            with requests.Session() as session:
                session.send(self._request, timeout=20)


def _deploy_first(bench: DeployBench, spec: PipelineSpec) -> None:
    if spec is not SPEC:
        bench.deployed()


@IS_DEFERRED
@FIRST_OR_SECOND
@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_create_that_a_gateway_sends_twice_leaves_one_pipeline(
    spec: PipelineSpec, is_deferred: bool, seconds: float
) -> None:
    with open_deploy_bench("0.15") as bench:
        _deploy_first(bench, spec)
        repeat = Repeat(bench, seconds)
        done = bench.deploy(spec, client=repeat.client, is_deferred=is_deferred)
        assert repeat.has_repeated
        assert done.pipeline is not None
        assert bench.only_pipeline().id == done.pipeline.pipeline_id
        assert "was created twice" in bench.lines.text("WARNING")


@IS_DEFERRED
@FIRST_OR_SECOND
@pytest.mark.parametrize("seconds", [2.5, 9.0])
def test_a_killed_tries_create_that_arrives_after_the_next_ones_is_deleted(
    spec: PipelineSpec, is_deferred: bool, seconds: float
) -> None:
    with open_deploy_bench("0.15") as bench:
        _deploy_first(bench, spec)
        late = LateCreate(bench, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            bench.deploy(spec, client=late.client)
        client = _client_until_arrival(bench, late, seconds)
        done = bench.deploy(spec, client=client, try_number=2, is_deferred=is_deferred)
        assert late.pipeline_id
        assert done.pipeline is not None
        assert bench.only_pipeline().id == done.pipeline.pipeline_id


@IS_DEFERRED
@pytest.mark.parametrize("seconds", [1.0, 2.5, 4.0, 9.0])
def test_a_late_create_during_a_rollback_is_deleted(is_deferred: bool, seconds: float) -> None:
    with open_deploy_bench("0.15") as bench:
        old = bench.deployed()
        late = LateCreate(bench, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            bench.deploy(BROKEN, client=late.client)
        client = _client_until_arrival(bench, late, seconds)
        with pytest.raises(ArroyoDeployError, match="Rolled back") as caught:
            bench.deploy(BROKEN, client=client, try_number=2, is_deferred=is_deferred)
        assert caught.value.was_rolled_back
        assert late.pipeline_id
        assert bench.only_pipeline().id == old.id


def test_a_rollback_waits_for_a_late_create_beyond_its_deadline() -> None:
    with open_deploy_bench("0.15") as bench:
        old = bench.deployed()
        late = LateCreate(bench, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            bench.deploy(BROKEN, client=late.client)
        began = bench.now()
        client = _client_until_arrival(bench, late, 9.5)
        with pytest.raises(ArroyoDeployError, match="Rolled back"):
            bench.deploy(BROKEN, client=client, try_number=2, rollback_timeout=timedelta(seconds=5))
        assert late.pipeline_id
        assert bench.now() - began > 9.5
        assert bench.only_pipeline().id == old.id


def _client_until_arrival(bench: DeployBench, late: LateCreate, seconds: float) -> ArroyoClient:
    """Return a client before whose first request that many seconds from now, or sleep, a lost create arrives."""
    due = bench.now() + seconds

    def arrive(_: requests.PreparedRequest) -> None:
        if not late.pipeline_id and bench.now() >= due:
            late.arrive()

    return bench.new_client(before=arrive, sleep=late.sleep_and_arrive_after(seconds))


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_sql_on_which_arroyo_hangs_up_is_refused_with_one_error(version: str) -> None:
    query = SPEC.query.replace("SELECT counter", "SELECT DISTINCT ON (counter) counter")
    with open_deploy_bench(version) as bench:
        with pytest.raises(ArroyoQueryError, match="closes the connection on this SQL") as caught:
            bench.deploy(replace(SPEC, query=query))
        assert caught.value.__cause__ is not caught.value
        assert bench.pipelines() == []


def _overtaken_when_it_resumes(bench: DeployBench, overtake: Callable[[], object], lost: int) -> ArroyoClient:
    """Return a client that loses the responses to some resumes; another deploy runs before the next try of the first.

    The next try resumes what that deploy has just stopped.
    """
    sent = 0

    def after(request: requests.PreparedRequest) -> None:
        nonlocal sent
        if request.method == "PATCH" and "none" in str(request.body):
            sent += 1
            if sent == 1:
                overtake()
            if sent <= lost:
                raise requests.ConnectionError("reset")

    return bench.new_client(after=after)


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("has_leftovers, lost", [(True, 1), (False, 1000)])
def test_a_resume_whose_response_was_lost_yields_to_a_deploy_that_keeps_the_old_pipeline(
    version: str, has_leftovers: bool, lost: int
) -> None:
    with open_deploy_bench(version) as bench:
        spec, old = SPEC, bench.deployed()
        if has_leftovers:
            spec = replace(SPEC, query=SPEC.query.replace("'10'", "'30'"))
            old = bench.deployed(spec=spec, keep_old=True)
        bench.change(old.id, "stop", "Stopped")

        def overtake() -> None:
            bench.deploy(SECOND, task=OTHER_TASK, keep_old=True)

        client = _overtaken_when_it_resumes(bench, overtake, lost)
        with pytest.raises(ArroyoError, match="Another deploy of 'orders' has created generation"):
            bench.deploy(spec, client=client)
        running = [bench.client.get_pipeline(one).query for one in bench.running()]
        assert len(running) == 1
        assert running[0].endswith(SECOND.query)
