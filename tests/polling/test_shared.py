"""The shared poller in virtual time: when waits are notified of changes, and the cost for the server."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import Baseline
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.job_polls import MAX_SINGLE_POLLS, prefers_list
from airflow_provider_arroyo.polling.poll import Polls
from tests.polling.fake_arroyo import LIST, SINGLE, FakeArroyo
from tests.polling.support import ALONE, INTERVAL, Waits, a_logger, a_plan, waiting
from tests.polling.virtual_time import VirtualClock, now, pass_time, turns, virtual

VERSIONS = pytest.mark.parametrize("version", ["0.15", "0.16"])
MODES = pytest.mark.parametrize("count", [1, 30], ids=["single", "list"])


@pytest.mark.parametrize(
    "intervals, jobs, expected",
    [
        ([], None, False),
        ([0.1], None, False),
        ([0.1], 1, False),
        ([0.1] * 2, None, True),
        ([0.1] * 2, 10, True),
        ([0.1] * 2, 50, False),
        ([0.1] * 5, 150, True),
        ([0.1] * 5, 200, False),
        ([0.1] * MAX_SINGLE_POLLS, 349, True),
        ([0.1] * MAX_SINGLE_POLLS, 350, False),
        ([0.1] * (MAX_SINGLE_POLLS + 1), 100_000, True),
        ([0.1, 60.0, 60.0, 60.0], 0, True),
        ([0.1, 60.0, 60.0, 60.0], 10, False),
        ([60.0] * 9, None, True),
    ],
)
def test_a_fixed_rule_chooses_the_list(intervals: list[float], jobs: int | None, expected: bool) -> None:
    assert prefers_list(intervals, jobs) is expected


# -- notifications -------------------------------------------------------------------------------------------


@virtual
async def test_the_first_poll_is_sent_at_once() -> None:
    server = FakeArroyo()
    server.set("pl_1", "Running")
    result = await Waits(server).start("pl_1")
    assert result.outcome is Outcome.REACHED
    assert (server.count(), now()) == (1, 0.0)


@MODES
@virtual
async def test_a_change_is_reported_within_an_interval(count: int) -> None:
    server, waits, _ = waiting(count)
    await pass_time(1.03)
    server.set("pl_0", "Running")
    await waits.tasks[0]
    assert now() <= 1.03 + INTERVAL + 0.001
    assert waits.done() == ["reached"]


@VERSIONS
@virtual
async def test_a_thousand_waits_cost_one_list_per_interval(version: str) -> None:
    server = FakeArroyo(version=version)
    server.seconds = lambda kind, pipeline_id: 0.01 if kind == LIST else 0.001
    waits = Waits(server)
    names = server.many(1000)
    waits.start_all(names)
    await pass_time(10)
    # The list of 0.15 has no pipeline ids: a single poll of each returns its job's id.
    assert server.count(SINGLE) <= (2000 if version == "0.15" else MAX_SINGLE_POLLS)
    server.forget()
    await pass_time(10)
    assert server.count(LIST) == pytest.approx(100, abs=2)
    assert server.count(SINGLE) == 0
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": 1000}
    assert {task.result().job.id for task in waits.tasks} == {f"job_{name}" for name in names}  # type: ignore[union-attr]  # reached with a job
    assert now() <= 20 + INTERVAL + 0.02
    assert server.most_at_once[LIST] == 1
    assert len(server.clients) == 1


class Counting(PipelineWait):
    """Counts its notifications."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.observed = 0

    def observe(self, job: Job | None, now: float) -> WaitResult:
        self.observed += 1
        return super().observe(job, now)


@pytest.mark.parametrize("count", [6, 50])
@virtual
async def test_each_wait_is_notified_of_its_own_job_and_only_when_it_changed(count: int) -> None:
    server = FakeArroyo()
    waits = Waits(server)
    clock = VirtualClock()
    counting = [Counting(a_plan(name, at=clock()), now=clock()) for name in server.many(count)]
    for wait in counting:
        waits.start("", wait=wait)
    await pass_time(5)
    assert [wait.observed for wait in counting] == [1] * count
    server.set("pl_4", "Compiling")
    server.set("pl_other", "Running")
    await pass_time(5)
    assert [wait.observed for wait in counting] == [1] * 4 + [2] + [1] * (count - 5)


@virtual
async def test_the_same_bytes_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    def counted(body: bytes) -> Any:
        parsed.append(len(body))
        return iter_items_with_text(body)

    from airflow_provider_arroyo.client.reading import iter_items_with_text

    monkeypatch.setattr("airflow_provider_arroyo.polling.waiters.iter_items_with_text", counted)
    server = FakeArroyo()
    waits = Waits(server)
    names = server.many(30)
    server.hide("pl_9")
    waits.start_all(names)
    await pass_time(5)
    parsed.clear()
    server.forget()
    await pass_time(5)
    assert server.count(LIST) >= 49
    assert parsed == []
    server.set("pl_4", "Compiling")
    await pass_time(5)
    assert len(parsed) == 1


@VERSIONS
@pytest.mark.parametrize(
    "env_vars", [{"run_id": "7"}, {"state": "Running", "id": "job_pl_8", "pipeline_id": "pl_8"}]
)
@virtual
async def test_an_environment_is_never_read_as_a_job(version: str, env_vars: dict[str, str]) -> None:
    server, waits, _ = waiting(20, version=version)
    await pass_time(5)
    server.set("pl_7", "Compiling", env_vars=env_vars)
    await pass_time(5)
    assert waits.done() == []
    server.set("pl_7", "Running", env_vars=env_vars)
    await pass_time(1)
    assert [task.done() for task in waits.tasks] == [number == 7 for number in range(20)]


@pytest.mark.parametrize("count", [1, 20])
@virtual
async def test_a_wait_is_not_notified_of_a_poll_that_was_sent_before_it_joined(count: int) -> None:
    server, waits, _ = waiting(count, "Stopped")
    await pass_time(1)
    server.seconds = lambda kind, pipeline_id: 2.0
    await pass_time(0.5)
    late = waits.start("pl_0", "Scheduling")
    server.set("pl_0", "Running")
    newest = waits.start("pl_0", "Running")
    assert (await newest).outcome is Outcome.REACHED
    await pass_time(5)
    assert not late.done()


@MODES
@virtual
async def test_a_stable_state_is_reached_after_stable_for(count: int) -> None:
    server, waits, _ = waiting(count, stable_for=timedelta(seconds=2))
    await pass_time(1)
    server.set("pl_0", "Running")
    assert (await waits.tasks[0]).outcome is Outcome.REACHED
    assert 3.0 <= now() <= 3.0 + 2 * INTERVAL + 0.01


@MODES
@virtual
async def test_an_old_state_counts_after_its_grace_although_no_poll_shows_a_change(count: int) -> None:
    server = FakeArroyo()
    waits, clock = Waits(server), VirtualClock()
    for name in server.many(count, "Stopped"):
        before = Baseline.of(Job.from_api(server.jobs[name][0]), requested_at=clock())
        waits.start(name, "Stopped", baseline=before, stale_grace=timedelta(seconds=3))
    assert await waits.all_over() == {"reached": count}
    assert 3.0 <= now() <= 3.0 + 2 * INTERVAL + 0.01


@virtual
async def test_lines_are_logged_in_the_context_of_the_waiting_task() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="no task")
    written: list[tuple[str, str]] = []
    connected_as: list[str] = []
    server = FakeArroyo()

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append((who.get(), record.getMessage()))

    async def connect() -> Any:
        connected_as.append(who.get())
        return await FakeArroyo.connect(server)

    server.connect = connect  # type: ignore[method-assign]  # logs in which context the connection is read
    waits = Waits(server)
    names = server.many(3)
    log = a_logger()
    log.addHandler(Log())
    for name in names:
        contextvars.copy_context().run(lambda name=name: (who.set(name), waits.start(name, log=log)))  # type: ignore[misc]  # mypy cannot infer it
    await pass_time(1)
    for name in names:
        server.set(name, "Running")
    await waits.all_over()
    assert Counter(name for name, _ in written) == dict.fromkeys(names, 2)
    assert all(name in text for name, text in written)
    # Log lines of shared polls are in no task's log.
    assert connected_as == ["no task"]


@MODES
@virtual
async def test_an_exception_in_a_log_or_a_wait_ends_only_that_wait(count: int) -> None:
    class FullDisk(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    class Broken(PipelineWait):
        def observe(self, job: Job | None, now: float) -> WaitResult:
            raise ZeroDivisionError

    server, waits, _ = waiting(count)
    log, clock = a_logger(), VirtualClock()
    log.addHandler(FullDisk())
    with pytest.raises(OSError, match="disk is full"):
        await waits.start("pl_0", log=log)
    with pytest.raises(ZeroDivisionError):
        await waits.start("pl_0", wait=Broken(a_plan("pl_0", at=clock()), now=clock()))
    server.set("pl_0", "Running")
    assert (await waits.tasks[0]).outcome is Outcome.REACHED


# -- joining and leaving ------------------------------------------------------------------------------


@virtual
async def test_cancelled_waits_leave_without_a_request() -> None:
    server = FakeArroyo()
    server.many(ALONE)
    waits = Waits(server)
    waits.start_all([f"pl_{number}" for number in range(5)])
    await pass_time(1)
    waits.tasks[0].cancel()
    await asyncio.sleep(0)
    server.forget()
    await pass_time(1)
    assert server.count(None, "pl_0") == 0
    assert server.count(None, "pl_1") == pytest.approx(10, abs=1)
    for task in waits.tasks:
        task.cancel()
    await pass_time(1)
    server.forget()
    await pass_time(1)
    assert server.count() == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    async with waits.poller:
        pass
    assert server.closed == 1


@virtual
async def test_waits_on_one_pipeline_share_its_polls() -> None:
    server = FakeArroyo()
    server.set("pl_1", "Scheduling")
    waits = Waits(server)
    waits.start("pl_1"), waits.start("pl_1", "Stopped"), waits.start("pl_1")
    await pass_time(10)
    assert server.count() <= 102
    waits.tasks[0].cancel()
    server.set("pl_1", "Running")
    assert (await waits.tasks[2]).outcome is Outcome.REACHED
    server.set("pl_1", "Stopped")
    assert (await waits.tasks[1]).outcome is Outcome.REACHED


@virtual
async def test_a_wait_with_a_long_interval_shares_more_frequent_polls_of_others() -> None:
    server = FakeArroyo()
    names = server.many(40)
    waits = Waits(server)
    slow = waits.start_all(names[:20], interval=60.0)
    await pass_time(50)
    assert server.count() <= 20
    fast = waits.start_all(names[20:])
    await pass_time(5)
    server.set("pl_3", "Running")
    await pass_time(2 * INTERVAL)
    assert slow[3].done()
    for task in fast:
        task.cancel()
    await pass_time(1)
    server.forget()
    await pass_time(121)
    assert server.count(LIST) == pytest.approx(2, abs=1)
    assert server.count(SINGLE) == 0


@virtual
async def test_single_polls_keep_the_interval_of_each_pipeline() -> None:
    server = FakeArroyo()
    server.many(ALONE)
    waits = Waits(server)
    waits.start("pl_0", interval=0.1), waits.start("pl_1", interval=1.0), waits.start("pl_2", interval=7.0)
    await pass_time(70)
    assert server.count(LIST) <= 1
    assert [server.count(None, f"pl_{number}") for number in range(3)] == pytest.approx([700, 70, 11], abs=3)


@virtual
async def test_a_slow_list_is_requested_less_often() -> None:
    """Five times the median of its last durations, at most a second."""
    server, _waits, _ = waiting(100)
    for seconds, interval in ((0.01, 0.1), (0.05, 0.25), (0.19, 0.95), (0.4, 1.0), (3.0, 6.0)):
        server.seconds = lambda kind, pipeline_id, seconds=seconds: seconds  # type: ignore[misc]  # a default binds it
        await pass_time(20 * interval)
        server.forget()
        await pass_time(60)
        assert server.count() == pytest.approx(60 / interval, rel=0.05, abs=1), seconds
        assert server.most_at_once[LIST] == 1
    # One slow response among fast ones changes nothing.
    server.seconds = lambda kind, pipeline_id: 0.01
    await pass_time(30)
    server.seconds = lambda kind, pipeline_id: 0.8 if len(server.log) == 5 else 0.01
    server.forget()
    await pass_time(10)
    assert server.count() == pytest.approx(92, abs=2)


@virtual
async def test_a_slow_list_of_many_jobs_is_requested_once_for_few_waits() -> None:
    server = FakeArroyo()
    names = server.many(ALONE)
    server.seconds = lambda kind, of: 1.5 if kind == LIST else 0.0
    waits = Waits(server)
    waits.start_all(names[:3])
    await pass_time(30)
    assert server.count(LIST) == 1
    server.forget()
    await pass_time(10)
    assert server.count(SINGLE) == pytest.approx(3 * 10 / INTERVAL, abs=3)


@virtual
async def test_a_new_wait_is_polled_at_once_although_the_list_is_slow() -> None:
    server = FakeArroyo()
    names = server.many(100)
    server.seconds = lambda kind, pipeline_id: 0.19 if kind == LIST else 0.001
    waits = Waits(server)
    waits.start_all(names[:90])
    await pass_time(10)
    for name in names[90:]:
        server.forget()
        began = now()
        server.set(name, "Running")
        assert (await waits.start(name)).outcome is Outcome.REACHED
        assert now() - began <= 0.01
        assert server.count(SINGLE) == 1
        await pass_time(0.37)


@virtual
async def test_a_new_wait_is_polled_at_once_although_others_have_long_intervals() -> None:
    server = FakeArroyo()
    server.set("pl_1", "Scheduling")
    waits = Waits(server)
    waits.start("pl_1", "Stopped", interval=60)
    await pass_time(5)
    server.set("pl_1", "Running")
    assert (await waits.start("pl_1", interval=60)).outcome is Outcome.REACHED
    assert now() == 5


@virtual
async def test_many_new_waits_share_lists_with_pauses_between_them() -> None:
    server = FakeArroyo()
    names = server.many(1000)
    server.seconds = lambda kind, pipeline_id: 0.03 if kind == LIST else 0.001
    waits = Waits(server)
    for name in names:
        waits.start(name)
        await pass_time(0.001)
    assert server.count(LIST) <= 1.0 / 0.06 + 3
    await pass_time(1)
    server.forget()
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": 1000}


# -- clocks --------------------------------------------------------------------------------------------------


@MODES
@virtual
async def test_each_wait_keeps_its_own_clock(count: int) -> None:
    """The machine's clock was stepped, and new waits use the new time."""
    _, waits, _ = waiting(count, state="Running", stable_for=timedelta(minutes=5), timeout=600)
    await pass_time(10)
    for step in (600.0, -86400.0, 299.0):
        ahead = VirtualClock(ahead=step)
        waits.start("pl_0", "Stopped", timeout=60, clock=ahead)
        waits.start("pl_0", stable_for=timedelta(seconds=30), clock=ahead)
    await pass_time(20)
    assert waits.done() == []
    await pass_time(45)
    assert Counter(waits.done()) == {"timed_out": 3, "reached": 3}
    await pass_time(220)
    assert Counter(waits.done()) == {"timed_out": 3, "reached": 3}
    await pass_time(30)
    assert Counter(waits.done()) == {"timed_out": 3, "reached": 3 + count}


# -- many ----------------------------------------------------------------------------------------------------


@virtual
async def test_few_waits_are_notified_in_one_turn_of_the_event_loop() -> None:
    notified: Counter[int] = Counter()

    class Notified(PipelineWait):
        def observe(self, *args: Any, **kwargs: Any) -> WaitResult:
            notified[turns()] += 1
            return super().observe(*args, **kwargs)

        def observe_error(self, *args: Any, **kwargs: Any) -> WaitResult:
            notified[turns()] += 1
            return super().observe_error(*args, **kwargs)

    server = FakeArroyo()
    waits, clock = Waits(server), VirtualClock()
    for name in server.many(400):
        waits.start("", wait=Notified(a_plan(name, at=clock()), now=clock()))
    await pass_time(5)
    server.fault = lambda kind, of: "refused"
    # After the eleventh failure, which announces the outage.
    await pass_time(30)
    assert sum(notified.values()) >= 4_800
    server.fault = lambda kind, of: None
    await pass_time(5)
    assert max(notified.values()) <= 2 * MAX_SINGLE_POLLS + 10
    for task in waits.tasks:
        task.cancel()


@pytest.mark.parametrize("pipelines", [3_000, 1], ids=["one pipeline each", "all on one pipeline"])
@virtual
async def test_the_work_grows_linearly_with_thousands_of_waits(pipelines: int) -> None:
    """Each wait joins, is notified twice and leaves; a few lists are polled."""
    server = FakeArroyo()
    names = server.many(pipelines)
    waits, clock = Waits(server), VirtualClock()
    counting = [
        Counting(a_plan(names[number % pipelines], at=clock()), now=clock()) for number in range(3_000)
    ]
    for wait in counting:
        waits.start("", wait=wait)
    await pass_time(2)
    assert {wait.observed for wait in counting} == {1}
    for name in names:
        server.set(name, "Running")
    changed = now()
    assert await waits.all_over() == {"reached": 3_000}
    assert now() - changed <= INTERVAL + 0.01
    assert {wait.observed for wait in counting} == {2}
    assert server.count(LIST) <= 25
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_a_sleeping_wait_keeps_one_job_and_nothing_that_it_no_longer_needs() -> None:
    """Each of these takes up to half a megabyte for a thousand waits."""

    def kept() -> Counter[type]:
        gc.collect()
        return Counter(map(type, gc.get_objects()))

    before = kept()
    server, waits, _ = waiting(100)
    await pass_time(2)
    server.set("pl_5", "Created")
    await pass_time(2)
    more = kept() - before
    assert more[PipelineWait] == more[Job] == 100
    # The list sleeps with a timeout.
    assert more[WaitResult] + more[Polls] + more[asyncio.Event] + more[asyncio.Timeout] <= 5
    for task in waits.tasks:
        task.cancel()
