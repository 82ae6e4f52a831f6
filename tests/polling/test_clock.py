"""The clock of waits."""

from __future__ import annotations

import time

import pytest

from airflow_provider_arroyo.polling.clock import SteadyClock


def test_the_clock_shows_the_time_of_day() -> None:
    before = time.time()
    shown = SteadyClock()()
    # It reads two clocks one after the other, and may be interrupted in between.
    assert before - 1 <= shown <= time.time() + 1


def test_the_clock_does_not_jump_with_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic, time_of_day = [100.0], [1_000_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic[0])
    monkeypatch.setattr(time, "time", lambda: time_of_day[0])
    clock = SteadyClock()
    assert clock() == 1_000_000.0
    time_of_day[0] -= 3600
    monotonic[0] += 5
    assert clock() == 1_000_005.0
    assert clock.to_monotonic(clock() + 7) == monotonic[0] + 7
    assert clock.from_monotonic(monotonic[0] + 7) == clock() + 7
