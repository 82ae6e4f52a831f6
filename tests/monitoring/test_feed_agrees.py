"""Whatever happens, the feed comes to the same verdict as a wait that looks for itself alone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.listing import newest_job
from airflow_provider_arroyo.arroyo.models import JobState
from airflow_provider_arroyo.exceptions import ArroyoConnectionError, ArroyoError
from airflow_provider_arroyo.monitoring.verdict import Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.fake_arroyo import LIST, FakeArroyo, contract_seconds
from tests.monitoring.feed_support import INTERVAL, a_wait, start
from tests.monitoring.virtual_time import clock, run

PIPELINES = [f"pl_{number}" for number in range(4)]

# Every state stands long enough for both to see it, and no length is near to what stable_for asks.
gaps = st.sampled_from([0.4, 0.7, 1.6, 2.6])
AFTER_AN_OUTAGE = 5.0

states = st.sampled_from([*JobState, "Hibernating"])
events = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(PIPELINES), states, st.integers(0, 1), st.booleans()),
    st.tuples(st.just("delete"), st.sampled_from(PIPELINES)),
    st.tuples(st.just("replace job"), st.sampled_from(PIPELINES)),
    st.tuples(st.just("hide"), st.sampled_from(PIPELINES)),
    st.tuples(st.just("show"), st.sampled_from(PIPELINES)),
    st.tuples(st.just("away"), gaps),
)
targets = st.sets(st.sampled_from(["Running", "Stopped", "Finished", "Failed"]), min_size=1, max_size=2)


class History:
    """Lets things happen to a server."""

    def __init__(self, server: FakeArroyo) -> None:
        self._server = server
        self._runs = dict.fromkeys(PIPELINES, 1)
        self._jobs = 0
        for name in PIPELINES:
            server.set(name, "Created", run_id=0)

    async def happen(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("set", name, state, more_runs, desired) if name in self._server.jobs:
                self._runs[name] += more_runs
                job = self._server.jobs[name][0]["id"]
                self._server.set(name, state, run_id=self._runs[name], running_desired=desired, id=job)
            case ("delete", name) if name in self._server.jobs:
                self._server.delete(name)
            case ("replace job", name) if name in self._server.jobs:
                self._jobs += 1
                self._server.set(name, "Created", run_id=0, id=f"job_new_{self._jobs}")
            case ("hide", name):
                self._server.hide(name)
            case ("show", name):
                self._server.show(name)
            case ("away", seconds):
                self._server.trouble = _refused
                await asyncio.sleep(seconds)
                self._server.trouble = lambda kind, pipeline_id: None
                await asyncio.sleep(AFTER_AN_OUTAGE)


def _refused(kind: str, pipeline_id: str) -> Exception:
    return ArroyoConnectionError("connection refused", method="GET", path=f"/{kind}", was_sent=False)


async def look_alone(server: FakeArroyo, wait: PipelineWait) -> Verdict:
    client = await server.connect()
    while True:
        began = clock()
        try:
            answer = await client.exchange(api.pipeline_jobs(wait.plan.pipeline_id))
            verdict = wait.observe(newest_job(answer.value), clock(), after_trouble=answer.retries > 0)
        except ArroyoError as err:
            verdict = wait.observe_error(err, clock())
        if verdict.is_over:
            return verdict
        await asyncio.sleep(max(0.0, began + INTERVAL - clock()))


def comparable(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome,
        "job": verdict.job,
        "wanted": verdict.wanted,
        "restarts": verdict.restarts,
        "error": type(verdict.error),
    }


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("cheap", ["list", "single"])
@given(
    story=st.lists(st.tuples(gaps, events), max_size=10),
    wanted=st.lists(targets, min_size=4, max_size=4),
    stable=st.sampled_from([0.0, 1.1]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_same_verdict(
    version: str,
    cheap: str,
    story: list[tuple[float, tuple[Any, ...]]],
    wanted: list[set[str]],
    stable: float,
) -> None:
    async def main() -> None:
        server = FakeArroyo(version=version)
        dear = {LIST: 0.03} if cheap == "single" else {LIST: 0.0001}
        server.seconds = lambda kind, jobs: dear.get(kind) or contract_seconds(kind, jobs)
        history = History(server)
        timeout = 10.0 + sum(
            gap + (event[1] + AFTER_AN_OUTAGE if event[0] == "away" else 0.0) for gap, event in story
        )
        waits = [
            [
                a_wait(name, *goal, timeout=timeout, stable_for=timedelta(seconds=stable))
                for name, goal in zip(PIPELINES, wanted, strict=True)
            ]
            for _ in range(2)
        ]
        together = start(server, waits[0])
        alone = [asyncio.create_task(look_alone(server, wait)) for wait in waits[1]]
        for gap, event in story:
            await asyncio.sleep(gap)
            await history.happen(event)
        verdicts = await asyncio.gather(*together)
        expected = await asyncio.gather(*alone)
        assert [comparable(verdict) for verdict in verdicts] == [comparable(verdict) for verdict in expected]
        for verdict, other in zip(verdicts, expected, strict=True):
            assert abs(verdict.waited_seconds - other.waited_seconds) <= AFTER_AN_OUTAGE

    run(main())
