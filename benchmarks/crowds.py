"""Crowds of waits for a real triggerer: ours, some that do nothing, and some that poll individually."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.triggers.arroyo import TRIGGER_PATH

TASKS_OF_A_DAG = 10
FAR_AWAY = 4e9
"""A deadline that no run reaches. It is the same whenever the DAG file is parsed."""


@dataclass(frozen=True)
class Crowd:
    """Waits of one kind that never end.

    :param waits: how many.
    :param path: the trigger's class.
    :param arguments: makes the trigger's arguments from a pipeline's id.
    """

    waits: int
    path: str
    arguments: Callable[[str], dict[str, Any]]

    @property
    def dags(self) -> int:
        """The number of DAGs that contain them."""
        return self.waits // TASKS_OF_A_DAG


def _ours(pipeline_id: str) -> dict[str, Any]:
    plan = WaitPlan(
        pipeline=PipelineRef(pipeline_id=pipeline_id), target_states=frozenset({"Stopped"}), deadline=FAR_AWAY
    )
    return {"arroyo_conn_id": "arroyo_default", "plan": plan.to_dict()}


CROWDS = {
    "nobody": Crowd(0, "", lambda _: {}),
    "1,000 that do nothing": Crowd(1000, "benchmarks.parts.Idle", lambda _: {}),
    "1,000 of ours": Crowd(1000, TRIGGER_PATH, _ours),
    "500 that poll one by one": Crowd(
        500, "benchmarks.parts.PollingTrigger", lambda id_: {"pipeline_id": id_, "state": None}
    ),
}
