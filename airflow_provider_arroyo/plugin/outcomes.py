"""What an action from a page came to, as the page shows it. The same wait decides that as for the audit log.

No process keeps it for the page, whose next request may meet another one: the page brings it along.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.plugin.actions import Action
from airflow_provider_arroyo.plugin.audit import FOLLOW_SECONDS, Acted, observe_list
from airflow_provider_arroyo.plugin.watch import Watch

_SAID = {
    Outcome.DELETED: "It has been deleted.",
    Outcome.MISSING: "It has been deleted.",
    Outcome.FINISHED: "It has finished, and nothing restarts it.",
    Outcome.NO_CHECKPOINT: "It is Finishing, where Arroyo ignores this.",
    Outcome.WITHDRAWN: "It was asked to run again before it stopped.",
}


class Followed(BaseModel):
    """An action whose effect is still to come.

    :param server: the address of the Arroyo that it was requested from.
    :param now: when the wait was last given a time, seconds since the epoch.
    :param plan, progress: of the wait.
    """

    model_config = ConfigDict(extra="forbid")

    action: Action
    server: str
    now: float = Field(allow_inf_nan=False)
    plan: dict[str, Any]
    progress: dict[str, Any]


def begun(acted: Acted, server: str) -> dict[str, Any]:
    """Return what a page gets after its request: the ``outcome``, or what to ``follow``; the other one is None.

    :param server: the address of the Arroyo.
    """
    wait = acted.wait()
    if wait is None:
        return {"outcome": {"ok": True, "text": _done(acted)}, "follow": None}
    return _stands(acted.action, server, wait, wait.tick(acted.at), acted.at)


def followed(one: Followed, watch: Watch, now: float) -> dict[str, Any]:
    """Return the same at a later time.

    :param watch: of the connection, just refreshed.
    :param now: seconds since the epoch.
    :raises UnreadablePlanError: where another version of this package wrote it.
    """
    wait = PipelineWait(WaitPlan.from_dict(one.plan), now=one.now, progress=one.progress)
    if watch.seen_at is not None and watch.seen_at > one.now:
        # The row shows Arroyo's reason without secrets.
        observe_list(wait, watch, one.server, now, with_reason=False)
    return _stands(one.action, one.server, wait, wait.tick(now), now)


def _stands(
    action: Action, server: str, wait: PipelineWait, result: WaitResult, now: float
) -> dict[str, Any]:
    if result.is_over:
        is_withdrawal = wait.plan.baseline is None
        return {"outcome": _said(action, result, is_withdrawal=is_withdrawal), "follow": None}
    one = Followed(action=action, server=server, now=now, plan=wait.plan.to_dict(), progress=wait.progress())
    return {"outcome": None, "follow": one.model_dump()}


def _done(acted: Acted) -> str:
    """Return what there is to say of an action of which nothing more is to come."""
    if acted.action == "delete":
        return "Deleted."
    if acted.action != "rescale":
        return "Requested. It has no job yet."
    if acted.options.parallelism == acted.facts.parallelism:
        return "It has this parallelism already."
    return "The new parallelism takes effect when it is started again."


def _said(action: Action, result: WaitResult, *, is_withdrawal: bool) -> dict[str, Any]:
    state = result.job.state if result.job else None
    if result.outcome is not Outcome.REACHED:
        failed = "It failed instead." if action == "stop" else "It failed instead of running."
        unseen = f"No effect seen after {FOLLOW_SECONDS:.0f} s. Check Arroyo's console."
        text = failed if result.outcome is Outcome.FAILED else _SAID.get(result.outcome, unseen)
    elif action == "stop":
        text = f"It is now {state}."
    elif state == JobState.FINISHED:
        text = "It has finished."
    else:
        text = "Its stop was withdrawn." if is_withdrawal else "It is running again."
    return {"ok": result.outcome is Outcome.REACHED, "text": text}
