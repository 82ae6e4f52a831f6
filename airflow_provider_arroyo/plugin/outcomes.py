"""The outcome of an action, as the page shows it. The same wait decides it as for the audit log.

The page keeps the wait between two requests, since each of them may reach another process of the API server.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.plugin.actions import FOLLOW_SECONDS, Acted, Action
from airflow_provider_arroyo.plugin.audit import observe_list
from airflow_provider_arroyo.plugin.watch import Watch

_FINISHING = "It is Finishing. In this state, Arroyo ignores the request."
_TEXTS = {
    Outcome.DELETED: "It has been deleted.",
    Outcome.MISSING: "It has been deleted.",
    Outcome.FINISHED: "It has finished, and nothing restarts it.",
    Outcome.WITHDRAWN: "It was asked to run again before it stopped.",
}


class Followed(BaseModel):
    """An action whose effect has not shown yet.

    :param action: the action.
    :param server: the address of the Arroyo that was asked for it.
    :param now: the last time that its wait was given, seconds since the epoch.
    :param plan, progress: the wait.
    """

    model_config = ConfigDict(extra="forbid")

    action: Action
    server: str
    now: float = Field(allow_inf_nan=False)
    plan: dict[str, Any]
    progress: dict[str, Any]


def first_response(acted: Acted, server: str) -> dict[str, Any]:
    """Return the ``outcome`` of an action that was just requested, or what to ``follow``; the other one is None.

    :param acted: the action.
    :param server: the address of the Arroyo server.
    :returns: also ``lost``: why Arroyo's response is unknown; None if Arroyo accepted the request.
    """
    lost, wait = acted.response if acted.is_unknown else None, acted.wait()
    if wait is not None:
        return {**_response(acted.action, server, wait, wait.tick(acted.at), acted.at), "lost": lost}
    text = _text_at_once(acted) if lost is None else "Whether it was done is unknown."
    return {"outcome": {"ok": lost is None, "text": text}, "follow": None, "lost": lost}


def next_response(one: Followed, watch: Watch, now: float) -> dict[str, Any]:
    """Return the same for a later request.

    :param one: the followed action.
    :param watch: the watch of the connection, just refreshed.
    :param now: seconds since the epoch.
    :raises UnreadablePlanError: if another version of this package wrote the plan.
    """
    wait = PipelineWait(WaitPlan.from_dict(one.plan), now=one.now, progress=one.progress)
    if watch.seen_at is not None and watch.seen_at > one.now:
        # The row shows the reason of a failure, without secrets.
        observe_list(wait, watch, one.server, now, with_reason=False)
    return _response(one.action, one.server, wait, wait.tick(now), now)


def _response(
    action: Action, server: str, wait: PipelineWait, result: WaitResult, now: float
) -> dict[str, Any]:
    if result.is_over:
        is_withdrawal = wait.plan.baseline is None
        return {"outcome": _outcome(action, result, is_withdrawal=is_withdrawal), "follow": None}
    one = Followed(
        action=action, server=server, now=now, plan=wait.plan.to_dict(), progress=wait.progress.to_dict()
    )
    return {"outcome": None, "follow": one.model_dump()}


def _text_at_once(acted: Acted) -> str:
    """Return the text for an action that has no further effect."""
    if acted.action == "delete":
        return "Deleted."
    if acted.action != "rescale":
        return "Requested. It has no job yet."
    if acted.options.parallelism == acted.facts.parallelism:
        return "It already has this parallelism."
    return "The new parallelism takes effect when it is started again."


def _outcome(action: Action, result: WaitResult, *, is_withdrawal: bool) -> dict[str, Any]:
    state = result.job.state if result.job else None
    if result.outcome is Outcome.NO_CHECKPOINT:
        text = f"{_FINISHING} Stop it immediately instead." if action == "stop" else _FINISHING
    elif result.outcome is not Outcome.REACHED:
        failed = "It failed instead." if action == "stop" else "It failed instead of running."
        unseen = f"No effect seen after {FOLLOW_SECONDS:.0f} s. Check Arroyo's console."
        text = failed if result.outcome is Outcome.FAILED else _TEXTS.get(result.outcome, unseen)
    elif action == "stop":
        text = f"It is now {state}."
    elif state == JobState.FINISHED:
        text = "It has finished."
    else:
        text = "Its stop was withdrawn." if is_withdrawal else "It is running again."
    return {"ok": result.outcome is Outcome.REACHED, "text": text}
