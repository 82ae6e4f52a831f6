"""A failure of one pipeline, or of the list alone, does not affect other waits. In virtual time."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoConnectionError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.job_polls import LIST_PAUSE_SECONDS, MAX_SINGLE_POLLS, JobPolls
from tests.polling.fake_arroyo import LIST, SINGLE, Answer, FakeArroyo
from tests.polling.support import INTERVAL, Waits, a_logger, a_plan, waiting
from tests.polling.virtual_time import VirtualClock, now, pass_time, virtual
from tests.support import Lines

REFUSED = [(status, '{"error": "as ordered"}') for status in (403, 404, 500)]
CUT = (200, '{"data": [{"id": "job_pl_0", "pipeline_id": ')
LIST_FAULTS: list[Answer] = [*REFUSED, (200, "<html>"), CUT, "hangs"]


def only(kind: str, answer: Answer) -> Any:
    """Return a fault that hits only the list, or only single polls."""
    return lambda of_kind, pipeline_id: answer if of_kind == kind else None


# -- the list alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", LIST_FAULTS)
@virtual
async def test_if_only_the_list_fails_single_polls_replace_it(answer: Answer) -> None:
    server = FakeArroyo()
    names = server.many(12)
    server.fault = only(LIST, answer)
    server.seconds = lambda kind, of: 0.001
    waits, lines = Waits(server), Lines()
    waits.start_all(names, log=a_logger(lines), interval=1.0, stable_for=timedelta(seconds=5))
    await pass_time(20)
    assert (server.count(LIST), waits.done()) == (2, [])
    assert [level for level, _ in lines.lines if level != "INFO"] == []
    server.fault = only("", answer)
    server.set("pl_1", "Running")
    await pass_time(7)
    assert waits.done() == ["reached"]
    await pass_time(LIST_PAUSE_SECONDS)
    server.forget()
    await pass_time(10)
    assert server.count(LIST) >= 9
    assert server.count(SINGLE) == 0
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": 12}


@pytest.mark.parametrize("answer", LIST_FAULTS)
@virtual
async def test_changes_are_seen_while_the_list_fails(answer: Answer) -> None:
    server = FakeArroyo()
    names = server.many(40)
    waits, lines = Waits(server), Lines()
    waits.start_all(names, log=a_logger(lines))
    await pass_time(5)
    server.fault = only(LIST, answer)
    for number, name in enumerate(names):
        server.set(name, "Running")
        began = now()
        await waits.tasks[number]
        # Only a list without a response takes a moment to time out.
        assert now() - began <= (4 if number == 0 and answer == "hangs" else 2 * INTERVAL)
    assert [level for level, _ in lines.lines if level != "INFO"] == []


@virtual
async def test_a_pause_of_the_list_that_is_over_at_once_ends_no_polls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that is frozen, or has no time for the event loop, may take longer to begin the pause."""
    server, waits, names = waiting(12)
    await pass_time(2)
    monkeypatch.setattr(JobPolls, "_list_interval", lambda _: 0.0)
    server.fault = only(LIST, REFUSED[0])
    await pass_time(2)
    for name in names:
        server.set(name, "Running")
    await pass_time(2)
    assert waits.done() == ["reached"] * 12


@virtual
async def test_a_slow_list_is_still_used() -> None:
    server = FakeArroyo()
    server.seconds = lambda kind, of: 2.5 if kind == LIST else 0.001
    waits = Waits(server)
    waits.start_all(server.many(50))
    await pass_time(30)
    server.forget()
    await pass_time(30)
    assert server.count(SINGLE) == 0
    assert server.count(LIST) >= 5


@virtual
async def test_a_list_whose_keys_come_in_another_order_is_valid() -> None:
    server = FakeArroyo()
    names = server.many(30)
    answers = itertools.cycle(
        ['{"total": 30, "data": %s}', '{"hasMore": {"data": []}, "data": %s, "x": [1]}']
    )

    def reordered(kind: str, pipeline_id: str) -> Answer | None:
        if kind != LIST:
            return None
        _, body = server._answer(LIST, "")
        return 200, next(answers) % body.decode().removeprefix('{"data": ').removesuffix("}")

    server.fault = reordered
    waits, lines = Waits(server), Lines()
    waits.start_all(names, log=a_logger(lines))
    await pass_time(5)
    server.forget()
    await pass_time(5)
    assert server.count(SINGLE) == 0
    assert server.count(LIST) == pytest.approx(50, abs=1)
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": 30}
    assert {level for level, _ in lines.lines} == {"INFO"}


# -- single pipelines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404, 500])
@virtual
async def test_a_hanging_pipeline_and_a_refused_list_delay_no_other_wait(status: int) -> None:
    server, waits, names = waiting(12)
    await pass_time(2)

    def fault(kind: str, pipeline_id: str) -> Any:
        if kind == LIST:
            return status, "<html></html>"
        return "hangs" if pipeline_id == names[0] else None

    server.fault = fault
    await pass_time(5)
    began = now()
    for name in names[1:]:
        server.set(name, "Running")
    for task in waits.tasks[1:]:
        await task
    assert now() - began <= 2


@pytest.mark.parametrize("slow", [1, MAX_SINGLE_POLLS])
@virtual
async def test_slow_responses_beside_a_list_that_fails_are_no_outage(slow: int) -> None:
    server, lines = FakeArroyo(), Lines()
    names = server.many(12)
    server.fault = only(LIST, (403, ""))
    server.seconds = lambda kind, of: 8.0 if of in names[:slow] else 0.0
    waits = Waits(server)
    waits.start_all(names, interval=1.0, outage_tolerance=timedelta(seconds=60), log=a_logger(lines))
    await pass_time(100)
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": len(names)}
    assert lines.text("WARNING") == ""


@pytest.mark.parametrize("hanging", [9, 20, 60])
@pytest.mark.parametrize("version", ["0.15", "0.16"])
@virtual
async def test_hanging_pipelines_do_not_occupy_every_thread(version: str, hanging: int) -> None:
    """They hang for two seconds each time, so that many of them could occupy every thread all the time."""
    server = FakeArroyo(version=version)
    names = server.many(hanging + 5)
    hung, healthy = names[:hanging], names[hanging:]
    server.hide(*names)
    server.seconds = lambda kind, of: 0.001
    waits = Waits(server)
    waits.start_all(names, outage_tolerance=timedelta(seconds=100))
    await pass_time(1)
    server.fault = lambda kind, of: "hangs" if of in hung else None
    # The first time, each of them occupies a thread for a second.
    await pass_time(hanging / MAX_SINGLE_POLLS + 12)
    server.forget()
    await pass_time(20)
    for name in healthy:
        times = [time for time, _, of in server.log if of == name]
        assert max(b - a for a, b in itertools.pairwise(times)) <= 2.5 * INTERVAL
    # A wait that joins now also gets a response at once; on 0.15, the id of its job.
    server.set("pl_new", "Running")
    began = now()
    assert (await waits.start("pl_new")).outcome is Outcome.REACHED
    assert now() - began <= 2 * INTERVAL
    # The pipelines that hung are seen again once they recover.
    server.fault = only("", "refused")
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": len(names) + 1}
    # Each may hang for a short time at first, then for five seconds; eight at a time, and eight begin each second.
    assert server.most_at_once[SINGLE] <= 8 * MAX_SINGLE_POLLS


@pytest.mark.parametrize("count", [1, 30], ids=["single", "list"])
@pytest.mark.parametrize("tolerance", [8, 20])
@virtual
async def test_a_wait_that_joins_while_a_poll_hangs_keeps_its_tolerance_to_a_second(
    count: int, tolerance: float
) -> None:
    server, waits, names = waiting(count)
    await pass_time(5)
    server.fault = lambda kind, of: "hangs"
    await pass_time(3)
    began = now()
    result = await waits.start(names[0], outage_tolerance=timedelta(seconds=tolerance))
    assert result.outcome is Outcome.UNREACHABLE
    assert tolerance <= now() - began <= tolerance + 0.5
    assert tolerance <= (result.unreachable_seconds or 0) <= tolerance + 0.5


@pytest.mark.parametrize("answer", [(500, '{"error": "x"}'), (504, ""), "hangs", "refused", (200, "{}")])
@virtual
async def test_a_failing_pipeline_delays_no_other(answer: Answer) -> None:
    """A round of polls does not wait for its slowest poll."""
    server = FakeArroyo()
    names = server.many(5)
    server.hide(names[0])
    waits = Waits(server)
    waits.start_all(names)
    await pass_time(1)
    server.fault = lambda kind, of: answer if of == names[0] else None
    await pass_time(5)
    began = now()
    for name in names:
        server.set(name, "Running")
    for task in waits.tasks[1:]:
        await task
    assert now() - began <= 2 * INTERVAL
    assert not waits.tasks[0].done()


@pytest.mark.parametrize("count", [1, 30], ids=["single", "list"])
@virtual
async def test_a_slow_look_up_of_the_connection_is_not_an_outage(count: int) -> None:
    server = FakeArroyo()

    async def connect() -> Any:
        await pass_time(8)
        return await FakeArroyo.connect(server)

    server.connect = connect  # type: ignore[method-assign]  # slow
    waits = Waits(server)
    waits.start_all(server.many(count, "Running"), outage_tolerance=timedelta(seconds=1))
    assert await waits.all_over() == {"reached": count}


@pytest.mark.parametrize("count", [1, 30], ids=["single", "list"])
@virtual
async def test_an_outage_is_announced_before_the_connection_is_looked_up_again(count: int) -> None:
    server, waits, _ = waiting(count)
    settings = server.client().settings

    def look_up() -> ClientSettings:
        server._spend(12.0)
        return settings

    server.reload, lines = look_up, Lines()
    waits.start("pl_0", log=a_logger(lines))
    await pass_time(1)
    server.fault = lambda kind, of: "refused"
    while server.count() == 0 or now() < server.log[-1][0] + 5:
        await pass_time(0.1)
    assert "Arroyo unreachable" in lines.text("WARNING")


@virtual
async def test_an_outage_that_another_process_saw_ends_in_time_while_the_first_poll_hangs() -> None:
    server, clock = FakeArroyo(), VirtualClock()
    server.many(1)
    server.fault = only(SINGLE, "hangs")
    began = clock() - 590
    wait = PipelineWait(a_plan("pl_0", at=clock(), outage_tolerance=timedelta(seconds=600)), now=began)
    wait.observe_error(ArroyoConnectionError("refused"), began)
    wait.progress.now = clock()  # its heartbeat is overdue
    result = await Waits(server).start("pl_0", wait=wait, clock=clock)
    assert result.outcome is Outcome.UNREACHABLE
    assert now() == pytest.approx(10, abs=0.01)
