"""The list of who waits: pipelines by id and by job, in which rhythm they are looked at, and who is new."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.monitoring.feed_waiters import Cadence, Target, Waiter
from airflow_provider_arroyo.monitoring.wait import PipelineWait

ABSENCES_BEFORE_SINGLE_LOOKS = 2
"""In how many lists in a row a pipeline must be missing before it is looked at singly from then on."""

_NEVER = float("inf")


class Roster:
    """Keeps the targets of a feed. Moments are those of the event loop's clock."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self.by_job: dict[str, Target] = {}
        self.joined: dict[Target, None] = {}
        """Targets with newcomers, which are to be looked at without delay."""
        self.wanting: set[Target] = set()
        """Targets of which somebody wants to be told the next look, changed or not."""
        self._listed: dict[float, Cadence] = {}
        self._single: dict[float, Cadence] = {}

    def join(self, wait: PipelineWait, interval_seconds: float, now: float) -> Waiter:
        """Add a waiter; its first look is due at once."""
        pipeline_id = wait.plan.pipeline_id
        target = self.targets.get(pipeline_id)
        if target is None:
            target = self.targets[pipeline_id] = Target(pipeline_id)
        waiter = Waiter(wait, interval_seconds, target)
        target.newcomers.append(waiter)
        self.joined[target] = None
        self.place(target, now)
        return waiter

    def leave(self, waiter: Waiter, now: float) -> None:
        """Remove a waiter, and its target with the last one."""
        target = waiter.target
        for waiters in (target.waiters, target.newcomers):
            if waiter in waiters:
                waiters.remove(waiter)
        self.place(target, now)
        if target.cadence is None:
            self.joined.pop(target, None)
            self.wanting.discard(target)
            self.targets.pop(target.pipeline_id, None)
            if target.job_id is not None:
                self.by_job.pop(target.job_id, None)

    def everyone(self) -> Iterator[Waiter]:
        """Return all waiters."""
        for target in self.targets.values():
            yield from target.everyone()

    def admit(self) -> list[Target]:
        """Let the newcomers take part in the look that begins now, and return their targets."""
        joined = list(self.joined)
        self.joined.clear()
        for target in joined:
            target.admit()
        self.wanting.update(joined)
        return joined

    def place(self, target: Target, now: float) -> None:
        """Put a target where its kind and its shortest interval belong."""
        interval = target.interval_seconds()
        kind = self._listed if target.is_listed else self._single
        cadence = None if interval == _NEVER else kind.get(interval)
        if cadence is None and interval < _NEVER:
            cadence = kind[interval] = Cadence(interval, now + interval)
        if target.cadence is cadence:
            return
        if target.cadence is not None:
            del target.cadence.targets[target.pipeline_id]
            self._drop_empty(target.cadence)
        if cadence is not None:
            cadence.targets[target.pipeline_id] = target
        target.cadence = cadence

    def was_in_list(self, target: Target, now: float) -> None:
        """Note that a list showed it."""
        target.absences = 0
        if not target.is_listed:
            target.is_listed = True
            self.place(target, now)

    def was_missing_in_list(self, target: Target, now: float) -> None:
        """Note that a list did not show it; from the second time on it is looked at singly."""
        target.item = None
        target.absences += 1
        if target.absences >= ABSENCES_BEFORE_SINGLE_LOOKS and target.is_listed:
            target.is_listed = False
            self.place(target, now)

    def learn_job(self, target: Target, job: Job) -> None:
        """Note which job is the pipeline's."""
        if target.job_id == job.id or self.targets.get(target.pipeline_id) is not target:
            return
        if target.job_id is not None:
            self.by_job.pop(target.job_id, None)
        target.job_id = job.id
        self.by_job[job.id] = target

    def listed(self) -> list[Cadence]:
        """Return the rhythms of those that the list shows."""
        return list(self._listed.values())

    def due(self, now: float) -> tuple[list[Cadence], list[Cadence]]:
        """Return the rhythms that are due: of those that the list shows, and of the others."""
        return (
            [cadence for cadence in self._listed.values() if cadence.next_at <= now],
            [cadence for cadence in self._single.values() if cadence.next_at <= now],
        )

    def next_at(self) -> float:
        """Return when the next look is due; infinite while nobody waits."""
        if self.joined:
            return 0.0
        return min(
            (cadence.next_at for kind in (self._listed, self._single) for cadence in kind.values()),
            default=_NEVER,
        )

    def _drop_empty(self, cadence: Cadence) -> None:
        if not cadence.targets:
            for kind in (self._listed, self._single):
                if kind.get(cadence.interval_seconds) is cadence:
                    del kind[cadence.interval_seconds]
