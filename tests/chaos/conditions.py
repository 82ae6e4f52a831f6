"""The conditions of the sensors for checkpoints and metrics, and why they should not have succeeded."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from airflow_provider_arroyo.sensors.arroyo import ArroyoCheckpointSensor, ArroyoMetricSensor

from .ground_truth import GroundTruth

_MAX_AGE_SECONDS = 60


class Wanted(NamedTuple):
    """What a sensor waits for.

    :param sensor: its class.
    :param arguments: its arguments besides the pipeline.
    :param why_false: returns why it should not have succeeded with a result; None if it was right to.
    """

    sensor: Callable[..., Any]
    arguments: dict[str, Any]
    why_false: Callable[[dict[str, Any]], str | None]


def draw_condition(draw: random.Random, truth: GroundTruth) -> Wanted:
    """Draw a condition of a pipeline that keeps running."""
    began = truth.now()
    if draw.random() < 0.5:
        wanted: dict[str, Any] = draw.choice(
            (
                {"began_after": datetime.fromtimestamp(began / 1e6, UTC)},
                {"new_checkpoints": 1},
                {"max_age": _MAX_AGE_SECONDS},
            )
        )
        since = began - _MAX_AGE_SECONDS * 1_000_000 if "max_age" in wanted else began
        return Wanted(ArroyoCheckpointSensor, wanted, partial(truth.why_not_taken, since=since))
    wanted = {
        **draw.choice(({"above": 5}, {"below": 15}, {"above": 5, "measure": "rate"})),
        **{"metric": "messages_sent", "operator": "sources", "stable_for": draw.choice((0, 3))},
    }
    return Wanted(
        ArroyoMetricSensor, wanted, partial(truth.why_not_measured, stable_for=wanted["stable_for"])
    )
