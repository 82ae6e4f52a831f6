"""The hold counts from the deferral, and is never longer than its setting by the trigger's own clock."""

from __future__ import annotations

import json
import math

import pytest

from airflow_provider_arroyo.monitoring.event import Hold


@pytest.mark.parametrize(
    "started_at, now, left",
    [
        (100.0, 100.2, 7.8),
        # The worker's request took a second.
        (101.0, 101.2, 7.8),
        (101.0, 108.9, 0.1),
        (101.0, 109.0, 0.0),
        (101.0, 5000.0, 0.0),
        # Started again, by another triggerer.
        (106.0, 106.5, 6.5),
        (900.0, 900.1, 0.0),
        # The worker's clock is an hour ahead, which does not lengthen the hold.
        (-3500.0, -3500.0, 8.0),
        (-3500.0, -3495.0, 3.0),
    ],
)
def test_the_remaining_time_of_the_hold(started_at: float, now: float, left: float) -> None:
    hold = Hold(deferred_at=100.0, seconds=8.0)
    assert hold.left(started_at=started_at, now=now) == pytest.approx(left)
    assert Hold.from_dict(json.loads(json.dumps(hold.to_dict()))) == hold


@pytest.mark.parametrize(
    "fields",
    [
        {"deferred_at": math.nan, "seconds": 8},
        {"deferred_at": 1, "seconds": math.inf},
    ],
)
def test_invalid_times_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        Hold.from_dict(fields)
