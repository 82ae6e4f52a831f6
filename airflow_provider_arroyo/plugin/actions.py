"""The actions that a user can request in the UI, as requests to Arroyo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.models import StopMode
from airflow_provider_arroyo.client.request import Request

Action = Literal["stop", "resume", "restart", "rescale", "delete"]
StopModes = Literal["checkpoint", "graceful", "immediate", "force"]

MAX_PARALLELISM = 10_000


class ActionOptions(BaseModel):
    """The options of an action.

    :param mode: for a stop.
    :param parallelism: for a rescale.
    :param force: for a restart: whether to skip the checkpoint.
    """

    model_config = ConfigDict(extra="forbid")

    mode: StopModes = "checkpoint"
    parallelism: int | None = Field(default=None, ge=1, le=MAX_PARALLELISM)
    force: bool = False


def request_for(action: Action, pipeline_id: str, options: ActionOptions) -> Request[Any]:
    """Return the request that carries out an action.

    :raises ValueError: if an option is missing; names it.
    """
    requests: dict[Action, Callable[[], Request[Any]]] = {
        "stop": lambda: endpoints.patch_pipeline(pipeline_id, stop=options.mode),
        "resume": lambda: endpoints.patch_pipeline(pipeline_id, stop=StopMode.NONE),
        "restart": lambda: endpoints.restart_pipeline(pipeline_id, force=options.force),
        "rescale": lambda: _rescale(pipeline_id, options.parallelism),
        "delete": lambda: endpoints.delete_pipeline(pipeline_id),
    }
    return requests[action]()


def _rescale(pipeline_id: str, parallelism: int | None) -> Request[Any]:
    if parallelism is None:
        raise ValueError("parallelism must be given: subtasks of each operator, 1 or more")
    return endpoints.patch_pipeline(pipeline_id, parallelism=parallelism)


def described(action: Action, options: ActionOptions) -> dict[str, Any]:
    """Return the options that apply to an action, for the audit log."""
    matter = {"stop": ("mode",), "rescale": ("parallelism",), "restart": ("force",)}.get(action, ())
    return {name: getattr(options, name) for name in matter}
