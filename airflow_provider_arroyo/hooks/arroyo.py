"""The hook: an Airflow connection, and through it Arroyo."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_arroyo.arroyo.models import StopMode
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNoConnectionError, ArroyoSettingsError
from airflow_provider_arroyo.hooks.connection import settings_error, settings_from

if TYPE_CHECKING:
    from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
    from airflow_provider_arroyo.arroyo.client import ArroyoClient
    from airflow_provider_arroyo.arroyo.details import Checkpoint, JobError, QueryValidation
    from airflow_provider_arroyo.arroyo.models import Job
    from airflow_provider_arroyo.arroyo.pipeline import Pipeline
    from airflow_provider_arroyo.arroyo.spec import PipelineSpec

DEFAULT_CONN_ID = "arroyo_default"
_TEST_SECONDS = 15.0


class ArroyoHook(BaseHook):
    """Talks to one Arroyo server through an Airflow connection of type ``arroyo``.

    The connection is looked up once, at the first use. Hooks of one process share their HTTP sessions.

    :param arroyo_conn_id: the connection, default ``arroyo_default``.
    """

    conn_name_attr: ClassVar[str] = "arroyo_conn_id"
    default_conn_name: ClassVar[str] = DEFAULT_CONN_ID
    conn_type: ClassVar[str] = "arroyo"
    hook_name: ClassVar[str] = "Arroyo"

    def __init__(self, arroyo_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.arroyo_conn_id = arroyo_conn_id

    # -- the connection's form, for Airflow before 3.2; later ones read it from the provider's info ------------

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow shows the connection's own fields."""
        from airflow_provider_arroyo.get_provider_info import get_provider_info

        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's further fields; none where what they are made of is not installed."""
        try:
            # Not dependencies of ours. Airflow before 3.2 has them with its FAB provider, and puts its own
            # stand-ins in their place when it asks for the form.
            from flask_babel import lazy_gettext  # type: ignore[import-not-found]  # as said above
            from wtforms import BooleanField, PasswordField, StringField  # type: ignore[import-untyped]  # as said
        except ImportError:
            # The connection's own fields keep their labels, and the rest can be written as JSON in Extra.
            return {}

        from airflow_provider_arroyo.get_provider_info import get_provider_info

        widgets: dict[str, Any] = {}
        for name, field in get_provider_info()["connection-types"][0]["conn-fields"].items():
            label, schema = lazy_gettext(field["label"]), field["schema"]
            default, kind = schema.get("default"), StringField
            if "boolean" in schema["type"]:
                kind = BooleanField
            elif schema.get("format") == "password":
                kind = PasswordField
            elif default is not None:
                # That form has no field for numbers with a fraction.
                default = str(default)
            widgets[name] = kind(label, description=field["description"], default=default)
        return widgets

    # -- clients ---------------------------------------------------------------------------------------------

    @cached_property
    def settings(self) -> ClientSettings:
        """Where the connection leads. Looks it up synchronously: not for an event loop.

        :raises ArroyoSettingsError: names the connection's field that is wrong, or the missing connection.
        """
        try:
            connection = self.get_connection(self.arroyo_conn_id)
        except AirflowNotFoundException as err:
            raise _no_connection(self.arroyo_conn_id) from err
        settings = settings_from(connection, _extra_of(connection.extra, self.arroyo_conn_id))
        _mask(_secrets(settings))
        return settings

    async def async_settings(self) -> ClientSettings:
        """Look the connection up anew, without blocking the event loop, and return where it leads.

        :raises ArroyoSettingsError: names the connection's field that is wrong, or the missing connection.
        """
        from airflow.providers.common.compat.connection import get_async_connection

        try:
            connection = await get_async_connection(self.arroyo_conn_id, hook=self)
        except AirflowNotFoundException as err:
            raise _no_connection(self.arroyo_conn_id) from err
        settings = settings_from(connection, _extra_of(connection.extra, self.arroyo_conn_id))
        if secrets := _secrets(settings):
            # Masking asks the supervisor synchronously, so it is kept off the loop.
            await asyncio.to_thread(_mask, secrets)
        return settings

    @cached_property
    def client(self) -> ArroyoClient:
        """The synchronous client: one pooled session for all hooks of this process that lead to the same place.

        :raises ArroyoSettingsError: names the connection's field that is wrong, such as a file that is missing.
        """
        from airflow_provider_arroyo.hooks.clients import shared_client

        settings = self.settings
        with self._named():
            return shared_client(settings)

    def get_conn(self) -> ArroyoClient:
        """Return the synchronous client."""
        return self.client

    async def get_async_conn(self) -> ArroyoAsyncClient:
        """Return a new asynchronous client, to be closed by the caller, on a fresh look at the connection.

        :raises ArroyoSettingsError: as :attr:`client` does.
        """
        from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient

        settings = await self.async_settings()
        with self._named():
            # The client would find out at its first call, which tells no connection.
            await asyncio.to_thread(_check_files, settings)
            return ArroyoAsyncClient(settings)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the connection in errors of the files that it names."""
        try:
            yield
        except ValueError as err:
            raise settings_error(self.arroyo_conn_id, err) from err

    def test_connection(self) -> tuple[bool, str]:
        """Return whether Arroyo answers and accepts the key, and what to show for it. Takes 15 seconds at most."""
        from airflow_provider_arroyo.arroyo import api
        from airflow_provider_arroyo.arroyo.client import ArroyoClient
        from airflow_provider_arroyo.arroyo.retry import RetryPolicy

        deadline = time.monotonic() + _TEST_SECONDS
        try:
            settings = self.settings
            with self._named():
                # Somebody waits for it in front of a page, so one more try must do.
                client = ArroyoClient(settings, retry=RetryPolicy(retries=1))
            with client:
                client.call(api.ping(), deadline=deadline)
                client.call(api.list_pipelines(limit=1), deadline=deadline)
        except ArroyoError as err:
            return False, str(err)
        return True, f"Arroyo answers at {self.settings.base_url} and accepts the connection"

    def console_url(self, pipeline_id: str) -> str:
        """Return the page of a pipeline in Arroyo's console."""
        return self.settings.pipeline_console_url(pipeline_id)

    # -- convenience -----------------------------------------------------------------------------------------

    def get_pipeline(self, pipeline_id: str) -> Pipeline:
        """Return a pipeline.

        :raises ArroyoNotFoundError: if there is none with that id.
        """
        return self.client.get_pipeline(pipeline_id)

    def get_job(self, pipeline_id: str) -> Job | None:
        """Return the pipeline's newest job; None where it has none yet.

        :raises ArroyoNotFoundError: if there is no such pipeline.
        """
        from airflow_provider_arroyo.arroyo.listing import newest_job

        return newest_job(self.client.pipeline_jobs(pipeline_id))

    def create_pipeline(self, spec: PipelineSpec) -> Pipeline:
        """Create and start a pipeline at an id of the server's. Not repeatable: see ``arroyo/submission.py``."""
        return self.client.create_pipeline(spec)

    def stop_pipeline(self, pipeline_id: str, mode: StopMode = StopMode.CHECKPOINT) -> Pipeline:
        """Ask a pipeline to stop. The answer comes before anything happened."""
        return self.client.patch_pipeline(pipeline_id, stop=mode)

    def resume_pipeline(self, pipeline_id: str) -> Pipeline:
        """Ask a stopped pipeline to run again. The answer comes before anything happened."""
        return self.client.patch_pipeline(pipeline_id, stop=StopMode.NONE)

    def restart_pipeline(self, pipeline_id: str, *, force: bool = False) -> None:
        """Ask a running or failed pipeline to restart. Does nothing to a stopped or finished one."""
        self.client.restart_pipeline(pipeline_id, force=force)

    def delete_pipeline(self, pipeline_id: str) -> None:
        """Delete a pipeline that is Stopped, Finished or Failed."""
        self.client.delete_pipeline(pipeline_id)

    def validate_query(self, query: str, udfs: Any = ()) -> QueryValidation:
        """Return what Arroyo makes of a query, without running it."""
        from airflow_provider_arroyo.arroyo.spec import as_udfs

        return self.client.validate_query(query, udfs=as_udfs(udfs))

    def job_errors(self, pipeline_id: str, job_id: str, *, limit: int = 10) -> tuple[JobError, ...]:
        """Return the job's last errors, newest first."""
        return self.client.job_errors(pipeline_id, job_id, limit=limit).data

    def checkpoints(self, pipeline_id: str, job_id: str) -> tuple[Checkpoint, ...]:
        """Return the job's checkpoints, oldest first."""
        return self.client.checkpoints(pipeline_id, job_id)

    def resolve_name(self, name: str) -> Pipeline:
        """Return the one pipeline with a name.

        Names are not unique in Arroyo. One that is alive goes before those at rest; where none is alive, the
        only one that there is.

        :param name: the exact name.
        :raises ArroyoNoSuchNameError: if none has that name.
        :raises ArroyoAmbiguousNameError: if several could be meant; lists them.
        """
        from airflow_provider_arroyo.arroyo.listing import resolve_name

        return resolve_name(self.client, name)


def _no_connection(conn_id: str) -> ArroyoNoConnectionError:
    return ArroyoNoConnectionError(
        f"There is no Airflow connection {conn_id!r}, or Airflow could not look it up just now. "
        "Create one of type Arroyo, or say another arroyo_conn_id."
    )


def _extra_of(extra: str | None, conn_id: str) -> Mapping[str, Any]:
    if not extra:
        return {}
    try:
        value = json.loads(extra)
    except ValueError:
        # Its text may hold a secret, so neither it nor the parser's excerpt is shown.
        raise ArroyoSettingsError(f"Airflow connection {conn_id!r}, field 'extra': is not JSON") from None
    if not isinstance(value, dict):
        raise ArroyoSettingsError(f"Airflow connection {conn_id!r}, field 'extra': must be a JSON object")
    return value


def _check_files(settings: ClientSettings) -> None:
    """Check that the files which the settings name can be used.

    :raises ValueError: names the setting.
    """
    from airflow_provider_arroyo.arroyo.tls import make_ssl_context

    settings.check_files()
    if settings.base_url.startswith("https:") and (settings.ca_cert or settings.client_cert):
        make_ssl_context(settings)


def _secrets(settings: ClientSettings) -> tuple[str, ...]:
    """Return what must not be seen in logs: what gateways and proxies want. Airflow knows of the password."""
    passwords = (urlsplit(address).password for address in settings.proxies.values())
    return (*settings.headers.values(), *(unquote(password) for password in passwords if password))


def _mask(secrets: Iterable[str]) -> None:
    """Keep secrets out of Airflow's logs."""
    from airflow.providers.common.compat.sdk import mask_secret

    mask: Callable[[str], None] = mask_secret
    for secret in secrets:
        mask(secret)
