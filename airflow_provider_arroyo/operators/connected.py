"""What a task gets from its connection: clients, the owner of its pipelines, and the pipeline that a name means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError, Disposition
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError
from airflow_provider_arroyo.operators.arguments import as_string

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.models import Pipeline
    from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.pipelines.ownership import Namespace, OwnershipLabel
    from airflow_provider_arroyo.polling.clock import SteadyClock

T = TypeVar("T")

NAME_NOTE_KEY = "arroyo_pipeline_of_name"
"""Key in the task's state store: which pipeline a name meant."""


class TaskEnd(Exception):  # noqa: N818  # not an error itself: it carries the one that ends the task
    """Carries the exception that ends a task up to where it is raised, without the frames in between.

    :param error: the exception to raise.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class ConnectedTask:
    """Mixin for all tasks."""

    arroyo_conn_id: str
    api_outage_tolerance: timedelta
    log: Any
    _given_context: Callable[[], Any] = dict
    """Returns Airflow's context; it is empty until Airflow calls the task."""
    _has_waited = False
    """Whether this task has waited for its pipeline before, in this process or another."""
    _server = ""
    """The address of the Arroyo server that a deferred wait polled; empty if there was none."""

    @property
    def _context(self) -> Any:
        return self._given_context()

    @property
    def _ti(self) -> Any:
        if (ti := self._context.get("ti")) is None:
            what = "context must contain the task instance (ti)"
            raise TaskEnd(ArroyoArgumentError(f"{what}. Let Airflow run the task, for example by dag.test()"))
        return ti

    @property
    def _state_store(self) -> Any:
        """The task's state store; None before Airflow 3.3."""
        return self._context.get("task_state_store")

    @cached_property
    def hook(self) -> ArroyoHook:
        """The hook of ``arroyo_conn_id``."""
        from airflow_provider_arroyo.hooks.arroyo import ArroyoHook

        with self._rendered_arguments():
            return ArroyoHook(arroyo_conn_id=as_string(self.arroyo_conn_id, "arroyo_conn_id"))

    @cached_property
    def clock(self) -> SteadyClock:
        """The clock of this task's deadlines."""
        from airflow_provider_arroyo.polling.clock import SteadyClock

        return SteadyClock()

    def _shared_client(self) -> ArroyoClient:
        """Return the client of the connection.

        :raises ArroyoSettingsError: if the connection leads to another server than before a deferral. Nothing that
            the task knows would apply there.
        """
        client = self.hook.client
        self.hook.check_server(client.settings, self._server)
        return client

    def _client(self, *, deadline: float | None = None) -> ArroyoClient:
        """Return a client that retries during an outage, at most until ``deadline`` (a time of the clock)."""
        client = self._shared_client()
        if self._has_waited:
            client.expect_arroyo()
        return client.with_limits(
            max_elapsed_seconds=self.api_outage_tolerance.total_seconds(),
            deadline=None if deadline is None else self.clock.to_monotonic(deadline),
            log=self.log,
        )

    def _new_client(self) -> ArroyoClient:
        """Return a separate client for a kill: the signal may have interrupted the shared one during a request.

        :raises ValueError: if the connection cannot be used.
        """
        from airflow_provider_arroyo.client.client import ArroyoClient

        return ArroyoClient(self._shared_client().settings)

    def _label(self, namespace: Namespace, **deployment: Any) -> OwnershipLabel:
        """Return the ownership label of what this try creates: its owner is the task instance.

        :param deployment: the label's ``deployment`` and ``generation``, where it is a deploy.
        """
        from airflow_provider_arroyo import __version__
        from airflow_provider_arroyo.on_kill import map_index_of
        from airflow_provider_arroyo.pipelines.ownership import Owner, OwnershipLabel

        ti = self._ti
        owner = Owner(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=map_index_of(ti),
            namespace=namespace.name,
        )
        return OwnershipLabel(task=owner, try_number=ti.try_number, package_version=__version__, **deployment)

    def _namespace(self) -> Namespace:
        """Return the namespace, which separates this Airflow's pipelines from others'; warn if there is none."""
        namespace = self.hook.namespace
        if not namespace.name:
            self.log.warning(
                "This Airflow has no namespace: another Airflow with the same DAGs on this Arroyo would treat "
                "this task's pipeline as its own. Set namespace in connection %r, or Airflow's [api] base_url.",
                self.arroyo_conn_id,
            )
        return namespace

    def _resolve_name(self, client: ArroyoClient, name: str, *, is_changed: bool = False) -> Pipeline:
        """Return the pipeline that a name means, the same in every try of the task as far as possible.

        Airflow 3.3 and later store its id between tries, and between the pokes of a rescheduled sensor.

        :param is_changed: whether the task changes the pipeline, so that a newer one must not be taken; default
            False.
        """
        from airflow_provider_arroyo.pipelines.names import resolve_name

        store, rule = self._state_store, self._name_rule(name, is_changed=is_changed)
        found = resolve_name(client, name, **rule)
        # If none is alive, a task that only waits may want one that is still to be created.
        if store is not None and (is_changed or found.is_alive) and rule["noted_id"] != found.pipeline.id:
            store.set(NAME_NOTE_KEY, {"name": name, "pipeline_id": found.pipeline.id})
        return found.pipeline

    def _name_rule(self, name: str, *, is_changed: bool = False) -> dict[str, Any]:
        """Return the rest of the rule that decides which pipeline a name means, see :func:`.resolve_name`."""
        ti, run = self._ti, self._context.get("dag_run")
        # Clearing a finished run resets its start date; then only its due date lies before the first try.
        is_new_start = is_changed and bool(getattr(run, "clear_number", None))
        began = getattr(run, "run_after" if is_new_start else "start_date", None)
        noted_id = self._note(name).get("pipeline_id")
        # A try notes what it finds before it does anything. By the time of a clear, the note may be gone.
        has_found_none = self._state_store is not None and noted_id is None and not self._was_cleared
        may_have_met = ti.try_number > 1 and not has_found_none
        return {
            "namespace": self.hook.namespace.name,
            "noted_id": noted_id,
            # A server on SQLite stores whole seconds.
            "began_micros": int(began.timestamp()) * 1_000_000 if may_have_met and began else None,
            "own_run": (ti.dag_id, ti.run_id) if is_changed and may_have_met else None,
        }

    @property
    def _was_cleared(self) -> bool:
        """Whether the task, or another one of its DAG run, has been cleared."""
        if getattr(self._context.get("dag_run"), "clear_number", None):
            return True
        # The number does not count a clear that leaves the DAG run as it is, but each clear allows all retries again.
        tries = getattr(self._ti, "max_tries", None)
        return isinstance(tries, int) and tries > (getattr(self, "retries", None) or 0)

    def _note(self, name: str) -> Mapping[str, Any]:
        """Return what an earlier try stored about a name; empty if it stored nothing or Airflow cannot store it."""
        noted = None if self._state_store is None else self._state_store.get(NAME_NOTE_KEY)
        return noted if isinstance(noted, Mapping) and noted.get("name") == name else {}

    def _ref(self, pipeline: Pipeline) -> PipelineRef:
        from airflow_provider_arroyo.monitoring.plan import PipelineRef

        return PipelineRef.of(pipeline, self.hook.settings)

    def _look_up(
        self, pipeline_id: str, deadline: float, *, may_be_missing: bool = False
    ) -> tuple[PipelineRef, ArroyoError | None]:
        """Return a pipeline's details; if Arroyo does not respond, only its id, and the error.

        :raises ArroyoNotFoundError: if there is no such pipeline, and the task does not wait for one.
        """
        from airflow_provider_arroyo.monitoring.plan import PipelineRef
        from airflow_provider_arroyo.polling.connection import single_try

        # Leave time for the wait itself.
        limit = self.clock() + max(1.0, deadline - self.clock()) / 2
        client = single_try(self._client(), 0.0, self.clock.to_monotonic(limit))
        try:
            return self._ref(client.get_pipeline(pipeline_id)), None
        except ArroyoError as err:
            is_waited_for = may_be_missing and isinstance(err, ArroyoNotFoundError)
            if err.disposition is Disposition.PERMANENT and not is_waited_for:
                raise
            return PipelineRef(pipeline_id=pipeline_id, console_url=self.hook.console_url(pipeline_id)), err

    @contextmanager
    def _rendered_arguments(self) -> Iterator[None]:
        """Turn errors in rendered arguments into an error that Airflow does not retry."""
        try:
            yield
        except ValueError as err:
            if isinstance(err, ArroyoError):
                raise
            raise TaskEnd(ArroyoArgumentError(str(err))) from err


def hidden(value: T) -> Callable[[], T]:
    """Return a function that returns a value: OpenLineage may show every attribute of a task."""
    return lambda: value
