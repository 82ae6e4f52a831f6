"""The operators that create a connection profile, a connection table or a UDF unless it exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_arroyo.client.checks import check_json_object, check_text
from airflow_provider_arroyo.client.names import check_name
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.operators.arguments import as_string, check_choice, check_early, optional
from airflow_provider_arroyo.operators.base import ArroyoOperator
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.pipelines.ensure import Ensured

IF_DIFFERENT = ("fail", "keep")
LANGUAGES = ("rust", "python")


class ArroyoEnsureOperator(ArroyoOperator):
    """The base class of the three operators."""

    _kind: ClassVar[str]

    def __init__(self, *, if_different: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.if_different = check_choice(if_different, "if_different", IF_DIFFERENT)

    def _ensure(self) -> Ensured:
        """Create it, or compare the existing one, by the rendered arguments."""
        raise NotImplementedError

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Create it, or compare the existing one with what is wanted; return the task's result."""
        ensured = self._ensure()
        what = f"{self._kind} {ensured.name!r} ({ensured.id})"
        if ensured.differences:
            text = f"{what} exists and differs from what is wanted:{ensured.report}"
            if self.if_different == "fail":
                raise ArroyoError(
                    f"{text}\nNothing was changed: Arroyo can only delete it and create it again, even while "
                    "pipelines use it. Do that in Arroyo's console, or accept it with if_different='keep'.",
                    is_fatal=True,
                )
            self.log.warning("%s\nIt is kept unchanged.", text)
        action = "created" if ensured.is_created else "unchanged"
        self.log.info("%s: %s", action.capitalize(), what)
        return {
            "id": ensured.id,
            "name": ensured.name,
            "action": action,
            "differences": list(ensured.differences),
        }


class ArroyoEnsureConnectionProfileOperator(ArroyoEnsureOperator):
    """Create a connection profile, which holds settings that connection tables share, unless it exists.

    Keep secrets in an Airflow connection or Variable, and pass them by a template, such as ``{"authentication":
    {"password": "{{ conn.kafka.password }}"}}``. Airflow masks them where it shows the task's rendered arguments.

    :param name: name of the profile. Templated.
    :param connector: id of the connector, such as ``kafka``. Templated.
    :param config: settings of the connector, as Arroyo's API expects them. Templated.
    :param if_different: what to do if one of that name exists and differs: ``"fail"`` (default), showing the
        differences without secrets, or ``"keep"`` it, with a warning.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :returns: ``id``, ``name``, ``action`` (``created`` or ``unchanged``) and ``differences`` (a list of strings).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if it exists and differs.
    """

    template_fields: Sequence[str] = ("name", "connector", "config", "arroyo_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"config": "json"}
    _kind = "Connection profile"

    def __init__(
        self,
        *,
        name: str,
        connector: str,
        config: Mapping[str, Any],
        if_different: str = "fail",
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            arroyo_conn_id=arroyo_conn_id,
            api_outage_tolerance=api_outage_tolerance,
            if_different=if_different,
            **kwargs,
        )
        self.name = check_early(check_name, name, "name")
        self.connector = check_early(check_name, connector, "connector")
        self.config = check_early(check_json_object, config, "config")

    def _ensure(self) -> Ensured:
        from airflow_provider_arroyo.pipelines.ensure import ensure_connection_profile

        with self._rendered_arguments():
            name = check_name(as_string(self.name, "name"), "name")
            connector = check_name(as_string(self.connector, "connector"), "connector")
            config = check_json_object(self.config, "config")
        self._step = f"Ensuring connection profile {name!r}"
        return ensure_connection_profile(self._client(), name=name, connector=connector, config=config)


class ArroyoEnsureConnectionTableOperator(ArroyoEnsureOperator):
    """Create a connection table, a source or sink that every pipeline can use, unless it exists.

    :param name: name of the table in SQL. Templated.
    :param connector: id of the connector, such as ``kafka``. Templated.
    :param config: settings of the table, as Arroyo's API expects them. Templated.
    :param connection_profile: name of the connection profile, if the connector needs one; default None. Templated.
    :param schema: fields and format, as Arroyo's API expects them, if the connector needs them; default None.
        Templated.
    :param if_different: what to do if one of that name exists and differs: ``"fail"`` (default), showing the
        differences without secrets and which pipelines use it, or ``"keep"`` it, with a warning.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :returns: ``id``, ``name``, ``action`` (``created`` or ``unchanged``) and ``differences`` (a list of strings).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if it exists and differs.
    :raises ArroyoTaskError: if the connection profile does not exist.
    """

    template_fields: Sequence[str] = (
        "name",
        "connector",
        "config",
        "connection_profile",
        "schema",
        "arroyo_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"config": "json", "schema": "json"}
    _kind = "Connection table"

    def __init__(
        self,
        *,
        name: str,
        connector: str,
        config: Mapping[str, Any],
        connection_profile: str | None = None,
        schema: Mapping[str, Any] | None = None,
        if_different: str = "fail",
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            arroyo_conn_id=arroyo_conn_id,
            api_outage_tolerance=api_outage_tolerance,
            if_different=if_different,
            **kwargs,
        )
        self.name = check_early(check_name, name, "name")
        self.connector = check_early(check_name, connector, "connector")
        self.config = check_early(check_json_object, config, "config")
        check_early(check_json_object, schema or {}, "schema")
        self.connection_profile = check_early(optional(check_name), connection_profile, "connection_profile")
        self.schema = schema

    def _ensure(self) -> Ensured:
        from airflow_provider_arroyo.pipelines.ensure import ensure_connection_table

        with self._rendered_arguments():
            name = check_name(as_string(self.name, "name"), "name")
            connector = check_name(as_string(self.connector, "connector"), "connector")
            config = check_json_object(self.config, "config")
            schema = optional(check_json_object)(self.schema, "schema")
            profile = optional(as_string)(self.connection_profile, "connection_profile")
            profile = optional(check_name)(profile, "connection_profile")
        self._step = f"Ensuring connection table {name!r}"
        return ensure_connection_table(
            self._client(), name=name, connector=connector, config=config, profile_name=profile, schema=schema
        )


class ArroyoEnsureUdfOperator(ArroyoEnsureOperator):
    """Create a UDF that every pipeline can use, unless it exists.

    The name of the UDF is read from its source. Arroyo compiles a Rust UDF before it responds, which takes more than
    30 seconds.

    :param definition: source code of the UDF. Not templated, since source code contains braces.
    :param language: ``"rust"`` (default) or ``"python"``.
    :param prefix: folder in which Arroyo's console shows it, default ``/``.
    :param if_different: what to do if one of that name exists and differs: ``"fail"`` (default), showing the
        differences without secrets, or ``"keep"`` it, with a warning.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :returns: ``id``, ``name``, ``action`` (``created`` or ``unchanged``) and ``differences`` (a list of strings).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if Arroyo refuses the source, or the UDF exists and differs.
    """

    template_fields: Sequence[str] = ("arroyo_conn_id",)
    _step = "Ensuring a UDF"
    _kind = "UDF"

    def __init__(
        self,
        *,
        definition: str,
        language: str = "rust",
        prefix: str = "/",
        if_different: str = "fail",
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            arroyo_conn_id=arroyo_conn_id,
            api_outage_tolerance=api_outage_tolerance,
            if_different=if_different,
            **kwargs,
        )
        self.definition = check_text(definition, "definition")
        self.language = check_choice(language, "language", LANGUAGES)
        self.prefix = check_text(prefix, "prefix")

    def _ensure(self) -> Ensured:
        from airflow_provider_arroyo.pipelines.ensure import ensure_udf

        return ensure_udf(
            self._client(), definition=self.definition, language=self.language, prefix=self.prefix
        )
