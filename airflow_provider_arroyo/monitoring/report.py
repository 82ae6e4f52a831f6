"""Builds the result of a wait from its memory."""

from __future__ import annotations

from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.progress import Progress
from airflow_provider_arroyo.monitoring.result import Outcome, WaitResult
from airflow_provider_arroyo.monitoring.rules import WaitRules


def report(
    plan: WaitPlan, p: Progress, rules: WaitRules, outcome: Outcome, now: float, argument: str | None
) -> WaitResult:
    """Return the status of a wait.

    :param plan, p, rules: the plan, memory and rules of the wait.
    :param outcome: its status or outcome.
    :param now: seconds since the epoch.
    :param argument: name of the argument that ended it; None for the plan's.
    """
    baseline = plan.baseline
    return WaitResult(
        outcome=outcome,
        target_states=tuple(sorted(plan.target_states)),
        goal=plan.goal,
        facts=p.finding.facts or {},
        seen=p.finding.seen,
        advice="" if plan.condition is None else plan.condition.advice,
        is_unsettled=rules.is_unsettled(),
        job=p.job,
        reached_at=now if outcome is Outcome.REACHED else None,
        waited_seconds=now - p.started_at,
        state_seconds=now - p.state_since if p.job else 0.0,
        restarts=p.restarts,
        restart_window=plan.restart_window,
        restarts_in_window=rules.restarts_that_count(now),
        is_missing=p.missing_since is not None,
        elsewhere=p.elsewhere,
        jobless_seconds=None if p.jobless_since is None else now - p.jobless_since,
        lacks_checkpoint=rules.lacks_checkpoint,
        open_epoch=p.proof.open_epoch,
        detail=plan.detail,
        details_error=p.details_error,
        unreachable_since=p.outage_since,
        unreachable_seconds=unreachable_seconds(p, now),
        has_responded=p.responded_at is not None,
        error=p.last_error,
        transitions=p.transitions,
        stats=p.stats,
        deadline_argument=argument or plan.deadline_argument,
        awaits_run=rules.awaits_run,
        is_unchanged=(
            p.job is not None
            and p.jobless_since is None
            and baseline is not None
            and not rules.is_fresh(p.job)
            and p.job.state == baseline.state
        ),
    )


def unreachable_seconds(p: Progress, now: float) -> float | None:
    """Return for how many seconds Arroyo has been unreachable, if polls fail; otherwise None."""
    return None if p.outage_since is None else now - p.outage_since
