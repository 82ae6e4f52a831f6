"""The hook: from an Airflow connection to a client of Arroyo's API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, conf

from airflow_provider_arroyo.client.checks import check_duration, check_integer
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.names import check_name
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.get_provider_info import get_provider_info
from airflow_provider_arroyo.hooks.connection import (
    default_namespace,
    no_connection,
    settings_error,
    settings_from,
)
from airflow_provider_arroyo.hooks.masking import hide_values
from airflow_provider_arroyo.text import duration

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.details import Checkpoint, JobError, QueryValidation
    from airflow_provider_arroyo.client.models import Job, Pipeline
    from airflow_provider_arroyo.monitoring.diagnosis import Diagnosis
    from airflow_provider_arroyo.pipelines.ownership import Namespace
    from airflow_provider_arroyo.pipelines.spec import PipelineSpec

DEFAULT_CONN_ID = "arroyo_default"
_TEST_SECONDS = 15.0


class ArroyoHook(BaseHook):
    """Sends requests to an Arroyo server, through an Airflow connection of type ``arroyo``.

    The connection is looked up once, at first use. All hooks of a process share their HTTP sessions.

    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``.
    """

    conn_name_attr: ClassVar[str] = "arroyo_conn_id"
    default_conn_name: ClassVar[str] = DEFAULT_CONN_ID
    conn_type: ClassVar[str] = "arroyo"
    hook_name: ClassVar[str] = "Arroyo"

    def __init__(self, arroyo_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.arroyo_conn_id = arroyo_conn_id

    # Airflow 3.2 and later read the form from the provider's info. Earlier versions call these two, which they look
    # for in the hook's own class, not in its base classes.

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow shows the connection's own fields."""
        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's further fields; none if the libraries for them are not installed."""
        try:
            # Airflow gets these libraries with its FAB provider, or replaces them with stand-ins when it requests
            # the form.
            from flask_babel import lazy_gettext  # type: ignore[import-not-found]  # no dependency of ours
            from wtforms import (  # type: ignore[import-untyped]  # no dependency of ours
                BooleanField,
                PasswordField,
                StringField,
            )
        except ImportError:
            # The connection's own fields keep their labels; the others can be written as JSON in Extra.
            return {}
        widgets: dict[str, Any] = {}
        for name, field in get_provider_info()["connection-types"][0]["conn-fields"].items():
            label, schema = lazy_gettext(field["label"]), field["schema"]
            default, kind = schema.get("default"), StringField
            if "boolean" in schema["type"]:
                kind = BooleanField
            elif schema.get("format") == "password":
                kind = PasswordField
            elif default is not None:
                # That form has no field for fractional numbers.
                default = str(default)
            widgets[name] = kind(label, description=field["description"], default=default)
        return widgets

    # -- clients ---------------------------------------------------------------------------------------------

    @cached_property
    def settings(self) -> ClientSettings:
        """The settings of the connection. The lookup is synchronous, so do not use this on an event loop.

        :raises ArroyoSettingsError: if a field of the connection is invalid, or the connection is missing; names it.
        """
        return self._look_up()

    @cached_property
    def namespace(self) -> Namespace:
        """The namespace, which separates this Airflow's pipelines from those of others on the same Arroyo.

        It is the connection's ``namespace``, else the host of Airflow's ``[api] base_url``, unless that is a local
        address.
        """
        return namespace_of(self.settings)

    def _look_up(self) -> ClientSettings:
        try:
            connection = self.get_connection(self.arroyo_conn_id)
        except AirflowNotFoundException as err:
            raise no_connection(self.arroyo_conn_id) from err
        settings = settings_from(connection)
        hide_values(settings.secrets)
        return settings

    def _reload(self, look_up: Callable[[], ClientSettings]) -> ClientSettings:
        """Look up the connection again.

        :raises ArroyoNoConnectionError: if Airflow fails; the client then continues with its current settings.
        """
        try:
            return look_up()
        except ArroyoError:
            raise
        except Exception as err:  # a secrets backend may raise anything
            raise no_connection(self.arroyo_conn_id) from err

    async def async_settings(self) -> ClientSettings:
        """Return the settings of the connection, without blocking the event loop.

        :raises ArroyoSettingsError: if a field of the connection is invalid, or the connection is missing; names it.
        """
        from airflow.providers.common.compat.connection import get_async_connection

        try:
            connection = await get_async_connection(self.arroyo_conn_id, hook=self)
        except AirflowNotFoundException:
            # Under `airflow dags test`, only a synchronous look-up reaches Airflow's database.
            return await asyncio.to_thread(self._look_up)
        settings = settings_from(connection)
        if secrets := settings.secrets:
            # Masking asks the supervisor synchronously, so it is kept off the loop.
            await asyncio.to_thread(hide_values, secrets)
        return settings

    @cached_property
    def client(self) -> ArroyoClient:
        """The client, with one pooled HTTP session for all hooks of this process on this connection.

        :raises ArroyoSettingsError: if a field of the connection is invalid, for example a missing file; names it.
        """
        from airflow_provider_arroyo.hooks.clients import shared_client

        settings = self.settings
        with self._named():
            return shared_client(self.arroyo_conn_id, settings, partial(self._reload, self._look_up))

    def get_conn(self) -> ArroyoClient:
        """Return the client; the same as :attr:`client`, under the name that Airflow hooks use.

        It has a method for every endpoint of Arroyo's API, such as ``get_conn().list_udfs()``. A request that fails
        temporarily is repeated for up to 15 seconds if that is safe; a slow response may take the timeouts of the
        connection. Threads can share the client. Do not close it, since all hooks of the process share it.

        :raises ArroyoSettingsError: see :attr:`client`.
        """
        return self.client

    async def get_async_client(self, server: str = "") -> ArroyoClient:
        """Return a new client without blocking the event loop. The caller must close it.

        The client's methods block, so call them in threads.

        :param server: the server that the connection must lead to; default: any.
        :raises ArroyoSettingsError: see :attr:`client`; also if the connection leads to another server.
        """
        from airflow_provider_arroyo.client.client import ArroyoClient

        loop = asyncio.get_running_loop()
        settings = await self.async_settings()
        self.check_server(settings, server)

        def look_up() -> ClientSettings:
            return asyncio.run_coroutine_threadsafe(self.async_settings(), loop).result(_TEST_SECONDS)

        with self._named():
            return await asyncio.to_thread(ArroyoClient, settings, reload=partial(self._reload, look_up))

    def check_server(self, settings: ClientSettings, server: str) -> None:
        """Check that the connection leads to the same server as before.

        :param settings: where it leads now.
        :param server: ``server`` of the earlier settings; empty for any.
        :raises ArroyoSettingsError: if it leads to another server.
        """
        if server:
            led = f"Airflow connection {self.arroyo_conn_id!r} led to {server} when this wait began"
            settings.check_same_server(server, led)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the connection in errors about the files of its settings."""
        try:
            yield
        except ValueError as err:
            raise settings_error(self.arroyo_conn_id, err) from err

    def test_connection(self) -> tuple[bool, str]:
        """Return whether Arroyo responds and accepts the key, and a message. Takes at most 15 seconds."""
        from airflow_provider_arroyo.client.client import ArroyoClient
        from airflow_provider_arroyo.client.retry import Limits
        from airflow_provider_arroyo.hooks.clients import version_of

        began = time.monotonic()
        deadline = began + _TEST_SECONDS
        try:
            settings = self.settings
            with self._named():
                # The user waits for this in the browser, so it retries only briefly.
                client = ArroyoClient(settings, limits=Limits(max_elapsed_seconds=1.0, deadline=deadline))
            with client:
                client.ping()
                took = time.monotonic() - began
                jobs = client.list_jobs()
                version = version_of(client)
        except ArroyoError as err:
            return False, str(err)
        pipelines = len(jobs.readable)
        count = "1 pipeline" if pipelines == 1 else f"{pipelines} pipelines"
        count += f". {jobs.error}" if jobs.error else "."
        return True, (
            f"Arroyo{version} responds at {self.settings.shown_url} within {duration(took)} and accepts the "
            f"connection. It has {count}"
        )

    def console_url(self, pipeline_id: str) -> str:
        """Return the URL of a pipeline in Arroyo's console."""
        return self.settings.pipeline_console_url(pipeline_id)

    # -- the most common requests of tasks ---------------------------------------------------------------------

    def get_pipeline(self, pipeline_id: str) -> Pipeline:
        """Return a pipeline.

        :raises ArroyoNotFoundError: if there is none with that id.
        """
        return self.client.get_pipeline(pipeline_id)

    def list_pipelines(self) -> list[Pipeline]:
        """Return all pipelines, newest first; a warning names those that cannot be read."""
        from airflow_provider_arroyo.client.lists import all_of

        return list(all_of(self.client.iter_pipelines()).shown(self.log))

    def get_job(self, pipeline_id: str) -> Job | None:
        """Return the pipeline's newest job; None if it has none yet.

        :raises ArroyoNotFoundError: if there is no such pipeline.
        """
        return self.client.get_job(pipeline_id)

    def list_jobs(self) -> tuple[Job, ...]:
        """Return every job of the server; a warning names those that cannot be read."""
        return self.client.list_jobs().shown(self.log)

    def create_pipeline(self, spec: PipelineSpec) -> Pipeline:
        """Create and start a pipeline. Each call creates another one, with a new id."""
        return self.client.create_pipeline(**spec.to_request())

    def stop_pipeline(self, pipeline_id: str, mode: StopMode = StopMode.CHECKPOINT) -> Pipeline:
        """Request a stop. Arroyo responds before it acts."""
        return self.client.patch_pipeline(pipeline_id, stop=StopMode(mode))

    def resume_pipeline(self, pipeline_id: str) -> Pipeline:
        """Request a resume of a stopped pipeline. Arroyo responds before it acts."""
        return self.client.patch_pipeline(pipeline_id, stop=StopMode.NONE)

    def restart_pipeline(self, pipeline_id: str, *, force: bool = False) -> None:
        """Request a restart of a running or failed pipeline. Has no effect on a stopped or finished one."""
        self.client.restart_pipeline(pipeline_id, force=force)

    def delete_pipeline(self, pipeline_id: str) -> None:
        """Delete a pipeline that is Stopped, Finished or Failed."""
        self.client.delete_pipeline(pipeline_id)

    def validate_query(self, query: str, udfs: Any = ()) -> QueryValidation:
        """Validate SQL without running it."""
        from airflow_provider_arroyo.client.udf import as_udfs

        return self.client.validate_query(query, udfs=as_udfs(udfs))

    def list_job_errors(self, pipeline_id: str, job_id: str, *, limit: int = 10) -> tuple[JobError, ...]:
        """Return the job's last errors, newest first; a warning names those that cannot be read.

        :raises ValueError: if the limit is not an integer of at least 1.
        """
        check_integer(limit, "limit")
        return self.client.list_job_errors(pipeline_id, job_id, limit=limit).shown(self.log)

    def list_checkpoints(self, pipeline_id: str, job_id: str) -> tuple[Checkpoint, ...]:
        """Return the job's checkpoints, oldest first; a warning names those that cannot be read."""
        return self.client.list_checkpoints(pipeline_id, job_id).shown(self.log)

    def resolve_name(self, name: str) -> Pipeline:
        """Return the pipeline with a name: the one that is alive, or the newest if none is alive.

        :param name: the exact name.
        :raises ValueError: if the name is empty or blank.
        :raises ArroyoNoSuchNameError: if none has that name.
        :raises ArroyoAmbiguousNameError: if several are alive; lists them.
        """
        from airflow_provider_arroyo.pipelines.names import resolve_name

        return resolve_name(self.client, check_name(name, "name")).pipeline

    def diagnose(self, pipeline_id: str, *, observe_seconds: float = 0.0) -> Diagnosis:
        """Return what is wrong with a pipeline, if anything, and what to do about it.

        The details name what could not be read. If that is needed to tell whether data flows, the kind is
        ``unknown``.

        :param pipeline_id: id of the pipeline.
        :param observe_seconds: how long to poll its state, default 0: once. A few seconds show whether a pipeline
            restarts again and again.
        :raises ValueError: if an argument is out of range; names the argument.
        :raises ArroyoNotFoundError: if there is no such pipeline.
        """
        from airflow_provider_arroyo.evidence import gather
        from airflow_provider_arroyo.monitoring.diagnosis import diagnose

        observed = check_duration(observe_seconds, "observe_seconds").total_seconds()
        return diagnose(gather(self.client, pipeline_id, observe_seconds=observed))


def namespace_of(settings: ClientSettings) -> Namespace:
    """Return the namespace of a connection, see :attr:`ArroyoHook.namespace`.

    :param settings: the settings of the connection.
    """
    from airflow_provider_arroyo.pipelines.ownership import Namespace

    derived = default_namespace(conf.get("api", "base_url", fallback=None))
    given = settings.namespace
    return Namespace(name=given or derived, is_explicit=bool(given), derived=derived)
