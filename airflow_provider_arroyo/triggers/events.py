"""The trigger that reports events of a pipeline to Airflow's assets, without a task that waits."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_arroyo.client.checks import (
    check_duration,
    check_max_restarts,
    check_not_a_template,
    check_restart_window,
    check_states,
    check_text,
)
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.names import check_name, check_pipeline_id
from airflow_provider_arroyo.monitoring.event_rule import DEFAULT_WINDOW, EventRule
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.text import duration

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.exceptions import ArroyoError
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.watch import EventMemory, EventWatch

EVENT_TRIGGER_PATH = "airflow_provider_arroyo.triggers.arroyo.ArroyoPipelineEventTrigger"

_FOLLOW_SECONDS = 10.0
"""Time between two look-ups of a name while its pipeline does not run, in seconds."""

_BROKEN_SECONDS = 60.0
"""Pause after an error that polling cannot fix, such as a refused key; afterwards, an edited connection is read."""

_STORED_SECONDS = 5
"""How long after an event it is recorded as reported: Airflow's triggerer stores events about once a second."""


class ArroyoPipelineEventTrigger(BaseEventTrigger):
    """Reports events of a pipeline to an asset: the trigger of an ``AssetWatcher``.

    It reports when the pipeline fails or stops, restarts too often, or finishes no checkpoint for too long. It
    changes nothing in Arroyo.

    Each event is reported at least once. If it is reported again, for example after the triggerer was killed, it has
    the same ``event_id``, derived from the job, the run (or the last checkpoint) and the kind of event. A state that
    exists when the watch begins is also reported, since the pipeline may have entered it while no triggerer was
    running. A state that began and ended while no triggerer was running is not reported. On Airflow 3.3 and later,
    the trigger stores what it has reported in the asset's state store.

    All triggers of a triggerer on the same connection share their polls. An outage of Arroyo is logged once and does
    not end the watch.

    Fields of an event: ``event_id``, ``event`` (the state, ``Restarts`` or ``NoCheckpoint``), ``pipeline_id``,
    ``pipeline_name``, ``job_id``, ``state``, ``run_id``, ``console_url``, ``failure_reason``, ``failure_domain``,
    ``seen_at``, ``started_at`` and ``finished_at`` (ISO 8601 in UTC, or None). ``Restarts`` adds ``restarts`` and
    ``restart_window_seconds``; ``NoCheckpoint`` adds ``last_checkpoint``, ``last_checkpoint_at`` and
    ``max_checkpoint_age_seconds``. In a DAG, an event is ``triggering_asset_events[asset][i].extra["payload"]``.

    :param pipeline_name: exact name of the pipeline. If several pipelines have this name, it means the one that is
        alive, or the newest if none is alive; if several are alive, the triggerer logs an error. If another pipeline
        takes over the name, for example after a deploy replaced one, the trigger follows it. If there is none yet, it
        waits. Give either this or ``pipeline_id``.
    :param pipeline_id: id of the pipeline, instead of its name.
    :param states: which states are events, of ``"Failed"``, ``"Stopped"`` and ``"Finished"``; default ``Failed``.
    :param max_restarts: how often the pipeline may restart by itself within ``restart_window``. One more is an event,
        and the count starts again from zero. Requested restarts, such as a resume or a new parallelism, do not count.
        Default None: any number.
    :param restart_window: the time within which ``max_restarts`` counts, at least ``poll_interval``; a timedelta or
        seconds. Default None: 10 minutes. Only with ``max_restarts``.
    :param max_checkpoint_age: how long a pipeline that should be running may finish no checkpoint, at least 1 second
        and longer than ``poll_interval``; use several times its checkpoint interval. A longer time is an event,
        reported once until another checkpoint finishes, and noticed within a tenth of that time. A timedelta or
        seconds; default None: any time.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``.
    :raises ValueError: if an argument is invalid; names the argument.
    """

    def __init__(
        self,
        *,
        pipeline_name: str | None = None,
        pipeline_id: str | None = None,
        states: Sequence[str] = (JobState.FAILED.value,),
        max_restarts: int | None = None,
        restart_window: timedelta | float | None = None,
        max_checkpoint_age: timedelta | float | None = None,
        poll_interval: timedelta | float = 0.1,
        arroyo_conn_id: str = "arroyo_default",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's is untyped
        if (pipeline_name is None) == (pipeline_id is None):
            given = "neither" if pipeline_id is None else "both"
            raise ValueError(f"exactly one of pipeline_id and pipeline_name must be given, got {given}")
        given_texts = {
            "arroyo_conn_id": arroyo_conn_id,
            **({"pipeline_name": pipeline_name} if pipeline_id is None else {"pipeline_id": pipeline_id}),
        }
        for argument, value in given_texts.items():
            check_not_a_template(
                check_text(value, argument), argument, "Airflow does not render an asset's trigger"
            )
        if pipeline_id is None:
            check_name(pipeline_name)
        else:
            check_pipeline_id(pipeline_id)
        self.poll_interval = check_duration(poll_interval, "poll_interval", positive=True).total_seconds()
        check_max_restarts(max_restarts)
        if max_restarts is not None and restart_window is None:
            restart_window = DEFAULT_WINDOW
        window = check_restart_window(restart_window, max_restarts, self.poll_interval)
        age = None
        if max_checkpoint_age is not None:
            age = check_duration(max_checkpoint_age, "max_checkpoint_age", positive=True)
        self.pipeline_name = pipeline_name
        self.pipeline_id = pipeline_id
        self.rule = EventRule(
            states=check_states(states, "states") if states else frozenset(),
            max_restarts=max_restarts,
            restart_window=window or DEFAULT_WINDOW,
            max_checkpoint_age=age,
        )
        if age is not None and age.total_seconds() <= self.poll_interval:
            raise ValueError(
                f"max_checkpoint_age must be longer than from poll to poll ({duration(self.poll_interval)}), or a "
                f"pipeline that is stopped would be reported as one that takes no checkpoints; got {age}"
            )
        self.arroyo_conn_id = arroyo_conn_id
        self._last_error: str | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the data that rebuilds this trigger. Airflow identifies watchers by it, so it must not vary."""
        rule, age = self.rule, self.rule.max_checkpoint_age
        return EVENT_TRIGGER_PATH, {
            "pipeline_name": self.pipeline_name,
            "pipeline_id": self.pipeline_id,
            "states": sorted(map(str, rule.states)),
            "max_restarts": rule.max_restarts,
            "restart_window": None if rule.max_restarts is None else rule.restart_window.total_seconds(),
            "max_checkpoint_age": None if age is None else age.total_seconds(),
            "poll_interval": self.poll_interval,
            "arroyo_conn_id": self.arroyo_conn_id,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch, and yield the events. Never returns by itself, because Airflow would restart it at once, forever."""
        # Importing here would block all other triggers of the triggerer, longest for an HTTP library.
        await asyncio.to_thread(_import_polling)
        from airflow_provider_arroyo.monitoring.plan import PipelineRef
        from airflow_provider_arroyo.monitoring.watch import EventWatch

        clock, store = SteadyClock(), getattr(self, "asset_state_store", None)  # Airflow 3.3 and later
        pipeline = PipelineRef(pipeline_id=self.pipeline_id or "", name=self.pipeline_name)
        watch = EventWatch(pipeline, self.rule, now=clock(), memory=await self._load(store))
        keeping = None if store is None else asyncio.ensure_future(self._keep(store, watch, clock))
        try:
            while True:
                error: Exception | None
                try:
                    error = await self._watch(watch, clock)
                except Exception as err:  # noqa: BLE001  # the connection's look-up may raise anything
                    error = err
                for payload in watch.take_events():
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's is untyped
                await self._pause_after(error, watch)
        finally:
            if keeping is not None:
                keeping.cancel()

    async def _watch(self, watch: EventWatch, clock: SteadyClock) -> ArroyoError | None:
        """Poll until there is something to report; return the error that ended it, if one did."""
        from airflow_provider_arroyo.monitoring.outcome import Outcome
        from airflow_provider_arroyo.polling.names import resolve_ref
        from airflow_provider_arroyo.polling.shared import shared_poller

        def resolve(client: ArroyoClient) -> PipelineRef:
            from airflow_provider_arroyo.hooks.arroyo import namespace_of

            rule = {"namespace": namespace_of(client.settings).name}
            return resolve_ref(client, name=str(self.pipeline_name), rule=rule)

        async with shared_poller((self.arroyo_conn_id, ""), self._connect) as poller:
            result = await poller.watch(
                watch,
                interval_seconds=self.poll_interval,
                clock=clock,
                log=self.log,
                resolve=None if self.pipeline_name is None else resolve,
                resolve_seconds=_FOLLOW_SECONDS,
            )
        if self.pipeline_name is not None and result.outcome is Outcome.DELETED:
            watch.find_again()
        return result.error if result.outcome is Outcome.ERROR else None

    async def _pause_after(self, error: Exception | None, watch: EventWatch) -> None:
        """Pause after an error that another poll does not fix; log it once."""
        if error is None:
            self._last_error = None
            return
        # The lines after the first may change with the states of pipelines although the error is the same.
        what_is_wrong = str(error).partition("\n")[0]
        if what_is_wrong != self._last_error:
            self._last_error = what_is_wrong
            what = watch.plan.pipeline.described
            again = duration(_BROKEN_SECONDS)
            self.log.error("Cannot watch the %s, trying again every %s: %s", what, again, error)
        await asyncio.sleep(_BROKEN_SECONDS)

    # -- the record of reported events -------------------------------------------------------------------------

    @property
    def _key(self) -> str:
        """The key in the asset's state store; an asset may have several watchers."""
        watched = json.dumps(self.serialize()[1], sort_keys=True)
        return f"arroyo_events_{hashlib.sha256(watched.encode()).hexdigest()[:16]}"

    async def _load(self, store: Any) -> EventMemory:
        from airflow_provider_arroyo.monitoring.watch import EventMemory

        if store is None:
            return EventMemory()
        try:
            kept = await store.aget(self._key)
        except Exception as err:  # noqa: BLE001  # Airflow's store may raise anything
            self.log.warning(
                "The record of reported events cannot be read, so events may be reported again: %r", err
            )
            return EventMemory()
        try:
            return EventMemory.from_dict(kept)
        except ValueError:
            return EventMemory()  # nothing yet, or written by another version

    async def _keep(self, store: Any, watch: EventWatch, clock: SteadyClock) -> None:
        """Store the record of reported events, once Airflow has stored them; earlier, a kill could lose events."""
        kept, has_failed = replace(watch.memory, kept_at=None), False
        while True:
            await asyncio.sleep(_STORED_SECONDS)
            reported, seen_at = replace(watch.memory, kept_at=None), clock()
            if reported == kept or watch.has_events:
                continue
            for _ in range(_STORED_SECONDS):
                # In small steps: after the process was frozen, Airflow gets time to store its events first.
                await asyncio.sleep(1)
            try:
                await store.aset(self._key, replace(reported, kept_at=seen_at).to_dict())
            except Exception as err:  # noqa: BLE001  # as above
                if not has_failed:
                    self.log.warning(
                        "The record of reported events cannot be stored, so events may be reported again: %r",
                        err,
                    )
                has_failed = True
            else:
                kept, has_failed = reported, False

    async def _connect(self) -> ArroyoClient:
        from airflow_provider_arroyo.hooks.arroyo import ArroyoHook

        return await ArroyoHook(arroyo_conn_id=self.arroyo_conn_id).get_async_client()


def _import_polling() -> None:
    """Import the modules for a watch now, so that the event loop need not."""
    import airflow_provider_arroyo.hooks.arroyo
    import airflow_provider_arroyo.monitoring.watch
    import airflow_provider_arroyo.polling.shared  # noqa: F401  # imported for its effect
