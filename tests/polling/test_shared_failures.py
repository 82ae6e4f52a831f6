"""The shared poller in virtual time while requests fail or hang: which waits are notified, and how often it polls."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import (
    ArroyoAuthError,
    ArroyoNoConnectionError,
    ArroyoSettingsError,
)
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.job_polls import MAX_SINGLE_POLLS
from tests.polling.fake_arroyo import LIST, SINGLE, Answer, FakeArroyo, FakeTransport, with_key
from tests.polling.support import ALONE, INTERVAL, Waits, a_logger, a_plan, waiting
from tests.polling.virtual_time import VirtualClock, now, pass_time, virtual
from tests.support import Lines

VERSIONS = pytest.mark.parametrize("version", ["0.15", "0.16"])
MODES = pytest.mark.parametrize("count", [1, 30], ids=["single", "list"])

INTERNAL = (500, '{"error": "Something went wrong"}')
LOGIN_PAGE = (200, "<html>Log in</html>")
FAULTS: list[Answer] = ["refused", "hangs", INTERNAL, (504, "<html></html>"), LOGIN_PAGE, (429, "")]


def always(answer: Answer) -> Any:
    return lambda kind, pipeline_id: answer


def fine(kind: str, pipeline_id: str) -> None:
    return None


# -- a failure of one pipeline affects only its own waits ------------------------------------------------------


@given(
    bad=st.dictionaries(st.integers(0, 6), st.sampled_from(FAULTS), max_size=7),
    since=st.sampled_from([0.0, 2.05]),
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_failures_of_others_do_not_slow_the_polls_of_a_healthy_pipeline(
    bad: dict[int, Answer], since: float
) -> None:
    @virtual
    async def polls(broken: dict[str, Answer], names: list[str]) -> None:
        server = FakeArroyo()
        server.many(ALONE)
        server.seconds = lambda kind, pipeline_id: 0.01
        server.fault = lambda kind, of: broken.get(of) if now() >= since and kind == SINGLE else None
        waits = Waits(server)
        waits.start_all(names)
        await pass_time(2)
        server.forget()
        await pass_time(12)
        for name in set(names) - set(broken):
            times = [time for time, _, of in server.log if of == name]
            assert len(times) == pytest.approx(120, abs=2)
            assert max(b - a for a, b in itertools.pairwise(times)) <= INTERVAL + 0.001

    names = [f"pl_{number}" for number in range(MAX_SINGLE_POLLS)]
    polls({f"pl_{number}": answer for number, answer in bad.items()}, names)
    polls({}, ["pl_7"])


@VERSIONS
@given(
    bad=st.dictionaries(st.integers(0, 19), st.sampled_from(FAULTS), max_size=20),
    hidden=st.sets(st.integers(20, 23)),
)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_failing_or_hanging_single_polls_do_not_delay_others(
    version: str, bad: dict[int, Answer], hidden: set[int]
) -> None:
    """Twenty previews, some without a response, together with listed pipelines and healthy previews."""

    @virtual
    async def main() -> None:
        server = FakeArroyo(version=version)
        names = server.many(40)
        server.hide(*names[:20], *(f"pl_{number}" for number in hidden))
        server.seconds = lambda kind, pipeline_id: 0.001
        broken = {f"pl_{number}": answer for number, answer in bad.items()}
        server.fault = lambda kind, pipeline_id: broken.get(pipeline_id)
        waits = Waits(server)
        waits.start_all(names)
        await pass_time(4)
        server.forget()
        await pass_time(10)
        assert server.count(LIST) == pytest.approx(100, abs=3)
        healthy = [name for name in names[:24] if name in server.previews and name not in broken]
        assert all(server.count(SINGLE, name) >= 90 for name in healthy)
        for name in names:
            server.set(name, "Running")
        server.hide()
        await pass_time(2 * INTERVAL + 0.01)
        assert [name for name, task in zip(names, waits.tasks, strict=True) if task.done()][-20:] == names[
            20:
        ]

    main()


@virtual
async def test_an_error_about_one_pipeline_is_reported_to_its_own_waits() -> None:
    server = FakeArroyo()
    server.many(3)
    server.fault = lambda kind, of: (401, "") if of == "pl_1" else None
    waits = Waits(server)
    server.hide("pl_1")
    waits.start_all(["pl_0", "pl_1", "pl_2"])
    await pass_time(1)
    assert [task.done() for task in waits.tasks] == [False, True, False]
    assert waits.done() == ["error"]


@pytest.mark.parametrize("garbage", [{"run_id": "two"}, {"state": 7}, {"state": None}, {"id": []}])
@virtual
async def test_an_unreadable_job_in_the_list_affects_only_its_own_waits(garbage: dict[str, Any]) -> None:
    server, waits, _ = waiting(20)
    await pass_time(2)
    server.set("pl_3", **{"state": "Running", **garbage})
    await pass_time(5)
    server.set("pl_4", "Running")
    await pass_time(2 * INTERVAL)
    # Arroyo has responded before, so this counts as an outage.
    assert [task.done() for task in waits.tasks] == [number == 4 for number in range(20)]
    server.set("pl_3", "Running")
    await pass_time(3)
    assert [task.done() for task in waits.tasks] == [number in (3, 4) for number in range(20)]


# -- outages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 8, 200])
@virtual
async def test_an_outage_is_logged_for_each_wait_and_costs_few_requests(count: int) -> None:
    server = FakeArroyo()
    server.many(ALONE if count <= MAX_SINGLE_POLLS else count)
    names = [f"pl_{number}" for number in range(count)]
    waits, lines = Waits(server), [Lines() for _ in names]
    for name, heard in zip(names, lines, strict=True):
        waits.start(name, log=a_logger(heard))
    await pass_time(5)
    server.fault = always("refused")
    server.forget()
    await pass_time(60)
    assert max(Counter(of for _, _, of in server.log).values()) <= 66
    assert len({of for _, _, of in server.log}) == (count if count <= MAX_SINGLE_POLLS else 1)
    server.fault = fine
    await pass_time(3)
    for heard in lines:
        warnings = [text for level, text in heard.lines if level == "WARNING"]
        assert [f"retry {number} of 10" in text for number, text in enumerate(warnings[:10], 1)] == [
            True
        ] * 10
        assert "Arroyo unreachable for" in warnings[10]
        assert "retrying for up to 10 min in total (api_outage_tolerance)" in warnings[10]
        assert len(warnings) == 11
        assert {level for level, text in heard.lines if "retry " in text} == {"WARNING", "DEBUG"}
        assert ["reachable again" in text for level, text in heard.lines if level == "INFO"] == [False, True]
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": count}


@MODES
@virtual
async def test_the_end_of_an_outage_is_seen_by_the_next_try(count: int) -> None:
    server, waits, names = waiting(count)
    await pass_time(5)
    server.fault = always("refused")
    await pass_time(30)
    server.fault = fine
    for name in names:
        server.set(name, "Running")
    server.forget()
    assert await waits.all_over() == {"reached": count}
    assert now() <= 35 + 2.01
    assert server.count() == 1


@MODES
@pytest.mark.parametrize("fault", ["refused", "hangs", INTERNAL])
@pytest.mark.parametrize("tolerance", [8, 30])
@virtual
async def test_the_tolerance_is_kept_to_a_second(count: int, fault: Answer, tolerance: float) -> None:
    server, waits, _ = waiting(count, outage_tolerance=timedelta(seconds=tolerance))
    # Nothing changes for a long time, so waits are not notified of polls. The outage begins with the last poll.
    await pass_time(60)
    server.fault = always(fault)
    assert await waits.all_over() == {"unreachable": count}
    assert tolerance - INTERVAL - 0.01 <= now() - 60 <= tolerance + 0.5
    for task in waits.tasks:
        assert tolerance <= (task.result().unreachable_seconds or 0) <= tolerance + 0.5
        assert task.result().error is not None


@virtual
async def test_a_pipeline_that_leaves_the_list_in_an_outage_keeps_its_tolerance() -> None:
    """The last list counts as a response, however long nothing had changed."""
    server, waits, _ = waiting(20, outage_tolerance=timedelta(seconds=30))
    await pass_time(100)
    server.hide("pl_3")
    server.fault = lambda kind, of: "refused" if kind == SINGLE else None
    await pass_time(29)
    assert waits.done() == []
    await pass_time(2)
    assert waits.done() == ["unreachable"]
    for task in waits.tasks[1:]:
        task.cancel()
    await asyncio.sleep(0)
    await pass_time(10)
    assert not waits.tasks[0].done()


@virtual
async def test_a_wait_that_joins_in_an_outage_has_its_own_tolerance_and_sees_the_end() -> None:
    server = FakeArroyo()
    names, waits = server.many(300), Waits(server)
    waits.start_all(names[:50])
    await pass_time(5)
    server.fault = always("refused")
    await pass_time(20)
    short = waits.start(names[0], outage_tolerance=timedelta(seconds=10))
    waits.start_all(names[50:])
    await pass_time(9)
    assert not short.done()
    await pass_time(2)
    assert short.result().outcome is Outcome.UNREACHABLE
    server.forget()
    await pass_time(10)
    assert server.most_at_once[SINGLE] <= MAX_SINGLE_POLLS
    assert server.count() <= 14 * (MAX_SINGLE_POLLS + 1)
    server.fault = fine
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": 300, "unreachable": 1}
    assert now() <= 46 + 2.1


@virtual
async def test_new_waits_in_an_outage_do_not_speed_up_the_retries_of_the_list() -> None:
    server = FakeArroyo()
    names, waits = server.many(600), Waits(server)
    waits.start_all(names[:100])
    await pass_time(5)
    server.fault = always("refused")
    await pass_time(20)
    server.forget()
    for name in names[100:]:
        waits.start(name)
        await pass_time(0.02)
    assert server.count(LIST) <= 11


@virtual
async def test_foreign_responses_cost_a_few_requests_for_all_waits() -> None:
    server, waits, names = waiting(100)
    await pass_time(5)
    server.fault = always(LOGIN_PAGE)
    server.forget()
    await pass_time(30)
    # Arroyo has responded at this address before, so it counts as an outage.
    assert waits.done() == []
    assert server.count() <= 130
    server.fault = fine
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": 100}


# -- no response ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 30], ids=["single", "list"])
@virtual
async def test_deadlines_are_kept_while_a_poll_hangs(count: int) -> None:
    server = FakeArroyo()
    names = server.many(count)
    waits = Waits(server)
    for number, name in enumerate(names):
        waits.start(name, timeout=10 + number)
    await pass_time(5)
    server.fault = always("hangs")
    for number, task in enumerate(waits.tasks):
        assert (await task).outcome is Outcome.TIMED_OUT
        assert now() == pytest.approx(10 + number, abs=0.01)


@MODES
@virtual
async def test_a_deadline_between_two_polls_does_not_hide_why_the_last_one_failed(count: int) -> None:
    server = FakeArroyo()
    names, waits = server.many(count, "Running"), Waits(server)
    server.fault = lambda kind, of: "refused" if now() >= 29 else None
    waits.start_all(names, "Stopped", interval=30.0, timeout=55.0)
    assert await waits.all_over() == {"timed_out": count}
    assert {str(task.result().error) for task in waits.tasks} == {"arroyo.test refused the connection"}


@virtual
async def test_a_wait_after_its_deadline_still_polls_once() -> None:
    server = FakeArroyo()
    server.set("pl_1", "Running")
    server.seconds = lambda kind, of: 1.5
    waits = Waits(server)
    assert (await waits.start("pl_1", timeout=0)).outcome is Outcome.REACHED
    server.fault = always("hangs")
    began = now()
    assert (await waits.start("pl_1", timeout=0)).outcome is Outcome.TIMED_OUT
    assert now() - began == pytest.approx(2.0, abs=0.01)


@virtual
async def test_a_state_that_was_stable_during_a_slow_poll_is_reached_with_its_response() -> None:
    server = FakeArroyo()
    server.set("pl_1", "Running")
    task = Waits(server).start("pl_1", stable_for=timedelta(seconds=5))
    await pass_time(1)
    server.seconds = lambda kind, of: 20.0
    assert (await task).outcome is Outcome.REACHED
    assert now() <= 22


# -- the connection ------------------------------------------------------------------------------------------


@MODES
@virtual
async def test_a_key_that_stays_refused_ends_every_wait_at_once(count: int) -> None:
    server = FakeArroyo()
    loaded: list[float] = []

    def load() -> ClientSettings:
        loaded.append(now())
        return server.clients[0].settings

    server.reload = load
    waits = Waits(server)
    waits.start_all(server.many(count))
    await pass_time(10.05)
    server.fault = always((401, ""))
    server.forget()
    assert await waits.all_over() == {"error": count}
    assert all(isinstance(task.result().error, ArroyoAuthError) for task in waits.tasks)
    assert (server.count(), len(loaded)) == (1, 1)


@MODES
@virtual
async def test_a_rotated_key_is_loaded_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeArroyo()
    monkeypatch.setattr(
        "airflow_provider_arroyo.client.link.Transport",
        lambda settings, *, clock: FakeTransport(server, settings),
    )
    loaded: list[float] = []

    def load() -> ClientSettings:
        loaded.append(now())
        return with_key(server.clients[0].settings, "new")

    server.reload = load
    names = server.many(count)
    waits, lines = Waits(server), Lines()
    waits.start_all(names, log=a_logger(lines))
    await pass_time(10)
    server.accepted_key = "new"
    await pass_time(10)
    for name in names:
        server.set(name, "Running")
    assert await waits.all_over() == {"reached": count}
    assert (len(loaded), len(server.clients)) == (1, 1)
    assert {level for level, _ in lines.lines} == {"INFO"}


@MODES
@pytest.mark.parametrize("error", [None, ArroyoNoConnectionError("no connection")])
@virtual
async def test_each_missed_poll_loads_the_connection_again(count: int, error: Exception | None) -> None:
    server = FakeArroyo()
    loaded: list[float] = []

    def load() -> ClientSettings:
        loaded.append(now())
        if error is not None:
            raise error
        return server.clients[0].settings

    server.reload = load
    waits = Waits(server)
    waits.start_all(server.many(count))
    await pass_time(5)
    server.fault = always("refused")
    await pass_time(8)
    assert loaded == []
    await pass_time(60)
    assert 3 <= len(loaded) <= 6
    assert waits.done() == []


@MODES
@virtual
async def test_a_connection_that_leads_to_another_server_ends_the_waits(count: int) -> None:
    server = FakeArroyo()
    server.reload = lambda: ClientSettings(base_url="http://other.test")
    waits = Waits(server)
    waits.start_all(server.many(count))
    await pass_time(5)
    server.fault = always("refused")
    assert await waits.all_over() == {"error": count}
    assert "another server" in str(waits.tasks[0].result().error)


@MODES
@pytest.mark.parametrize("away", [1.0, 50.0, 1000.0])
@virtual
async def test_a_moment_without_the_connection_ends_no_wait(count: int, away: float) -> None:
    server = FakeArroyo()

    async def connect() -> Any:
        if now() < away:
            raise ArroyoNoConnectionError("There is no Airflow connection")
        return server.client()

    server.connect = connect  # type: ignore[method-assign]  # fails at first
    waits = Waits(server)
    waits.start_all(server.many(count, "Running"))
    short = waits.start("pl_0", "Stopped", timeout=10.0)
    ended = await asyncio.gather(*waits.tasks[:count], return_exceptions=True)
    if away < 60:
        assert {one.outcome for one in ended if not isinstance(one, BaseException)} == {Outcome.REACHED}
        assert now() <= away + 2.2
    else:
        assert {type(one) for one in ended} == {ArroyoNoConnectionError}
        assert now() == pytest.approx(60, abs=2)
    # It does not delay a deadline.
    result = await short
    assert result.outcome is Outcome.TIMED_OUT
    says_why = "There is no Airflow connection" in str(explain(result, PipelineRef(pipeline_id="pl_0")))
    assert (says_why, result.is_outage) == (away > 10, away > 10)
    assert result.waited_seconds == pytest.approx(10.0, abs=0.2)


@pytest.mark.parametrize(
    "error", [ArroyoSettingsError("port is not a number"), RuntimeError("the database is unavailable")]
)
@pytest.mark.parametrize("count", [1, 20])
@virtual
async def test_an_error_in_the_look_up_of_the_connection_ends_only_the_current_waits(
    error: Exception, count: int
) -> None:
    server = FakeArroyo()
    attempts = 0

    async def connect() -> Any:
        nonlocal attempts
        attempts += 1
        await pass_time(0.01)
        if now() < 1:
            raise error
        return await FakeArroyo.connect(server)

    server.connect = connect  # type: ignore[method-assign]  # fails at first
    waits = Waits(server)
    waits.start_all(server.many(count, "Running"))
    waits.start_all(["pl_0", "pl_0"])
    ended = await asyncio.gather(*waits.tasks, return_exceptions=True)
    assert {type(item) for item in ended} == {type(error)}
    assert attempts <= MAX_SINGLE_POLLS + 1
    await pass_time(2)
    assert (await waits.start("pl_0")).outcome is Outcome.REACHED


@MODES
@virtual
async def test_a_bug_ends_the_waits_instead_of_hanging_them(count: int) -> None:
    class Broken(FakeArroyo):
        is_broken = False

        async def run(self, function: Any) -> Any:
            if self.is_broken:
                raise KeyError("a bug")
            return await super().run(function)

    server = Broken()
    waits = Waits(server)
    waits.start_all(server.many(count))
    await pass_time(1)
    server.is_broken = True
    ended = await asyncio.gather(*waits.tasks, return_exceptions=True)
    assert {type(error) for error in ended} == {KeyError}
    server.is_broken = False
    server.set("pl_0", "Running")
    assert (await waits.start("pl_0")).outcome is Outcome.REACHED


@pytest.mark.parametrize("has_responded", [False, True])
@virtual
async def test_a_tls_error_is_an_outage_for_a_wait_that_another_triggerer_began(has_responded: bool) -> None:
    """This triggerer's own client has had no response yet."""
    server, clock = FakeArroyo(), VirtualClock()
    server.many(1)
    server.fault = always((400, "400 No required SSL certificate was sent"))
    wait = PipelineWait(a_plan("pl_0", at=clock()), now=clock(), has_responded=has_responded)
    waits = Waits(server)
    waits.start("pl_0", wait=wait, clock=clock)
    await pass_time(300)
    assert waits.done() == ([] if has_responded else ["error"])
    server.fault = fine
    server.set("pl_0", "Running")
    assert await waits.all_over() == {"reached" if has_responded else "error": 1}
