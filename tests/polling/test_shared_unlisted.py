"""Pipelines that are not in the list, or no longer the same, in virtual time: previews, deletions, new jobs."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.job_polls import MAX_SINGLE_POLLS
from airflow_provider_arroyo.polling.waiters import JobList, Target
from tests.polling.fake_arroyo import LIST, SINGLE, FakeArroyo
from tests.polling.support import INTERVAL, Waits, a_logger, a_plan, waiting
from tests.polling.virtual_time import VirtualClock, now, pass_time, virtual
from tests.support import Lines

VERSIONS = pytest.mark.parametrize("version", ["0.15", "0.16"])


@virtual
async def test_a_preview_is_polled_singly() -> None:
    server = FakeArroyo()
    names = server.many(30)
    server.hide("pl_9")
    waits = Waits(server)
    waits.start_all(names)
    await pass_time(2)
    server.forget()
    await pass_time(5)
    assert server.count(SINGLE, "pl_9") == server.count(SINGLE) == pytest.approx(50, abs=1)
    assert server.count(LIST) == pytest.approx(50, abs=1)
    server.set("pl_9", "Running")
    await pass_time(2 * INTERVAL)
    assert waits.done() == ["reached"]


@virtual
async def test_single_polls_are_at_most_eight_at_a_time() -> None:
    server = FakeArroyo()
    names = server.many(100)
    server.hide(*names)
    server.seconds = lambda kind, pipeline_id: 0.01
    waits = Waits(server)
    waits.start_all(names)
    await pass_time(5)
    assert server.most_at_once[SINGLE] == MAX_SINGLE_POLLS
    # The number of requests is limited, too.
    assert 13 <= min(server.count(SINGLE, name) for name in names) <= 17
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": 100}


@VERSIONS
@virtual
async def test_a_deleted_pipeline_is_reported_to_its_own_waits(version: str) -> None:
    server, waits, _ = waiting(30, version=version)
    await pass_time(3)
    server.delete("pl_4")
    await pass_time(2 * INTERVAL)
    assert waits.done() == ["deleted"]
    assert waits.tasks[4].done()


@VERSIONS
@virtual
async def test_a_job_that_is_replaced_is_followed(version: str) -> None:
    server, waits, _ = waiting(30, "Stopped", version=version)
    await pass_time(3)
    server.set("pl_4", "Created", run_id=0, id="job_new")
    await pass_time(1)
    server.forget()
    await pass_time(5)
    assert server.count(SINGLE) == 0
    server.set("pl_4", "Stopped", id="job_new")
    await pass_time(2 * INTERVAL)
    result = waits.tasks[4].result()
    assert result.outcome is Outcome.REACHED
    assert result.job is not None
    assert result.job.id == "job_new"


@virtual
async def test_a_single_poll_returns_the_newest_of_two_jobs() -> None:
    server = FakeArroyo()
    names = server.many(30)
    server.set("pl_4", "Failed", id="job_old")
    old = server.jobs["pl_4"]

    def newest(state: str) -> None:
        server.set("pl_4", state, id="job_new")
        server.jobs["pl_4"] += old

    newest("Scheduling")
    waits = Waits(server)
    waits.start_all(names)
    await pass_time(2)
    assert waits.done() == []
    newest("Running")
    await pass_time(2 * INTERVAL)
    assert waits.done() == ["reached"]


@virtual
async def test_a_pipeline_without_a_job_is_polled_until_it_has_one() -> None:
    server = FakeArroyo()
    names = server.many(20)
    server.jobs["pl_none"] = []
    waits = Waits(server)
    waits.start_all([*names, "pl_none"])
    await pass_time(3)
    server.set("pl_none", "Running")
    await pass_time(2 * INTERVAL)
    assert waits.done() == ["reached"]


@virtual
async def test_on_0_15_a_known_job_id_makes_single_polls_unnecessary() -> None:
    server = FakeArroyo(version="0.15")
    names = server.many(200)
    waits, clock = Waits(server), VirtualClock()
    for name in names:
        before = PipelineWait(a_plan(name, at=clock()), now=clock())
        before.observe(Job.from_api(server.jobs[name][0]), clock())
        waits.start("", wait=PipelineWait(before.plan, now=clock(), progress=before.progress.to_dict()))
    await pass_time(5)
    assert server.count(SINGLE) <= MAX_SINGLE_POLLS
    assert waits.done() == []
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": 200}


def test_a_job_may_disappear_while_a_list_is_read() -> None:
    """The list is read in a thread, while a single poll shows that a pipeline has no job any more."""
    job, reads = Job(id="job_1", state="Running", run_id=1, running_desired=True), 0

    class Vanishing(Target):
        __slots__ = ()

        @property  # the second time it is read, the job has gone
        def job(self) -> Job | None:
            nonlocal reads
            reads += 1
            return job if reads == 1 else None

        @job.setter
        def job(self, value: Job | None) -> None:
            pass

    body = b'{"data": [{"id": "job_1", "state": "Running", "run_id": 1, "running_desired": true}]}'
    target = Vanishing("pl_1", sent_at=0.0, job=job)
    listed = JobList.read(HttpResponse(200, {}, body, "/jobs"), [target], None)
    assert [one for one, _, _ in listed.deliveries] == [target]


@virtual
async def test_an_unknown_pipeline_is_reported_at_once() -> None:
    result = await Waits(FakeArroyo()).start("pl_gone")
    assert (result.outcome, now()) == (Outcome.MISSING, 0)


@virtual
async def test_an_old_list_does_not_override_a_newer_single_poll() -> None:
    server = FakeArroyo()
    server.many(20)
    waits, lines = Waits(server), Lines()
    waits.start_all([f"pl_{number}" for number in range(20)])
    await pass_time(1)
    server.seconds = lambda kind, pipeline_id: 0.5 if kind == LIST else 0.001
    await pass_time(0.15)
    server.set("pl_new", "Created")
    await pass_time(1.5)
    assert server.log[-1][1] == LIST
    waits.start("pl_new", "Stopped", log=a_logger(lines))
    server.set("pl_new", "Scheduling")
    await pass_time(3)
    server.set("pl_new", "Stopped")
    await waits.tasks[-1]
    assert [text.split(":")[0].split(" after")[0] for _, text in lines.lines] == [
        *(["Created", "Created → Scheduling"] if "Created" in lines.lines[0][1] else ["Scheduling"]),
        "Scheduling → Stopped",
    ]


def test_a_list_without_changes_keeps_the_body_that_was_parsed() -> None:
    """If each poll kept its own, the free memory between them would grow to megabytes."""
    first, same = (HttpResponse(200, {}, bytes(bytearray(b'{"data": []}')), "/jobs") for _ in range(2))
    assert first.body is not same.body
    assert JobList.read(same, [], first.body).body is first.body
