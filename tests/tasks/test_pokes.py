"""What a rescheduled sensor logs from poke to poke, and how long it tolerates a server that hangs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.polling.poll import poll_until
from tests.polling.fake_arroyo import FakeArroyo
from tests.polling.virtual_time import ManualTime, VirtualClock

from .conftest import Arrange
from .harness import FakeTaskInstance, StateStore, quiet, recording, sense


class Pokes:
    """Pokes a sensor as Airflow does: each time a new one, of the same task.

    :param store: the task's state store; None before Airflow 3.3.
    """

    def __init__(self, pipeline_id: str, store: StateStore | None) -> None:
        self.pipeline_id = pipeline_id
        self.context: dict[str, Any] = {"ti": FakeTaskInstance()}
        if store is not None:
            self.context["task_state_store"] = store

    def poke(self) -> list[str]:
        """Poke once and return what was logged at INFO or above."""
        lines: list[tuple[str, str]] = []
        sensor = quiet(sense(self.pipeline_id, "Finished", mode="reschedule")(), recording(lines))
        assert sensor.poke(self.context) is False
        self.context["ti"].first_reschedule_date = datetime.now(UTC)
        return [text.split(" after ")[0] for _, text in lines]


@pytest.mark.parametrize("make_store", [lambda: None, StateStore], ids=["before 3.3", "3.3"])
def test_an_unchanged_state_is_logged_by_the_first_poke(
    make_store: Callable[[], StateStore | None], arrange: Arrange
) -> None:
    pipeline_id, store = arrange.pipeline("Running"), make_store()
    pokes = Pokes(pipeline_id, store)
    begin, state = pokes.poke()
    assert begin.startswith("Waiting for Finished: ")
    assert state == "Running: orders (run 1)"
    assert [pokes.poke(), pokes.poke()] == [[], []]
    arrange.client.patch_pipeline(pipeline_id, stop=StopMode.CHECKPOINT)
    arrange.until(pipeline_id, "Stopped")
    # Before 3.3, Airflow cannot store the state.
    assert pokes.poke() == ([] if store is None else ["Running, run 1 → Stopped, run 1: orders"])
    assert pokes.poke() == []


def test_a_failing_state_store_only_adds_log_lines(arrange: Arrange) -> None:
    class Broken(StateStore):
        def get(self, *_: Any) -> Any:
            raise RuntimeError("no API")

    pokes = Pokes(arrange.pipeline("Running"), Broken())
    assert [len(pokes.poke()), len(pokes.poke())] == [2, 0]


def test_each_poke_reads_the_state_store_at_most_once(arrange: Arrange) -> None:
    class Counting(StateStore):
        asked = 0

        def get(self, *args: Any) -> Any:
            self.asked += 1
            return super().get(*args)

    store = Counting()
    pokes = Pokes(arrange.pipeline("Running"), store)
    for number in range(1, 4):
        pokes.poke()
        assert store.asked <= number


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("fault", ["hangs", "refused", (504, "")])
def test_the_tolerance_is_kept_to_a_second_though_the_look_up_failed_as_well(
    mode: str, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tolerance = 8
    time = ManualTime()
    server = FakeArroyo(monotonic=time, spend=time.sleep)
    server.fault = lambda kind, of: fault
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", "arroyo://arroyo.test:5115")
    monkeypatch.setattr(ArroyoHook, "client", server.client())
    defaults: Any = poll_until.__kwdefaults__
    monkeypatch.setitem(defaults, "sleep", time.sleep)
    lines: list[tuple[str, str]] = []
    make = sense("pl_1", api_outage_tolerance=timedelta(seconds=tolerance), mode=mode, timeout=3600)
    sensor = quiet(make(), recording(lines))
    sensor.clock = VirtualClock(monotonic=time)
    ti: Any = FakeTaskInstance(first_reschedule_date=datetime.fromtimestamp(sensor.clock() - 60, UTC))
    with pytest.raises(ArroyoTaskError, match=r"unreachable|does not look like Arroyo"):
        (sensor.poke if mode == "reschedule" else sensor.execute)({"ti": ti})
    assert tolerance <= time() <= tolerance + 1
    retries = [text.split(" in ")[0].split(":")[0] for level, text in lines if level == "WARNING"]
    assert retries[:2] == ["Poll failed, retry 1 of 10", "Poll failed, retry 2 of 10"][: len(retries)]


@pytest.mark.parametrize("by_name", [True, False], ids=["name", "id"])
def test_a_pipeline_that_was_deleted_between_pokes_is_an_error(arrange: Arrange, by_name: bool) -> None:
    """Only a later try waits for it again."""
    store = StateStore()
    pipeline_id = arrange.pipeline("Running")
    which = {"pipeline_name": "orders"} if by_name else {"if_missing": "wait"}
    make = sense(None if by_name else pipeline_id, "Finished", mode="reschedule", **which)

    def poke(try_number: int, first: datetime | None = None) -> Any:
        ti = FakeTaskInstance(try_number=try_number, first_reschedule_date=first)
        return make().poke({"ti": ti, "task_state_store": store, "dag_run": None})

    assert poke(1) is False
    arrange.client.patch_pipeline(pipeline_id, stop="immediate")
    arrange.until(pipeline_id, "Stopped")
    arrange.client.delete_pipeline(pipeline_id)
    # Another pipeline of that name is not the same one.
    arrange.pipeline("Running")
    message = rf"^Pipeline 'orders' \({pipeline_id}\) was deleted externally; last seen Running \(run 1\)"
    with pytest.raises(ArroyoTaskError, match=message):
        poke(1, datetime.now(UTC))
    assert poke(2) is False
    assert poke(2, datetime.now(UTC)) is False
