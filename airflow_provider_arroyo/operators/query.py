"""The operators that try SQL: validate and preview, and the base class of all that take SQL."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_duration,
    check_integer,
    check_sql,
    check_text,
)
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoTaskError
from airflow_provider_arroyo.hooks.masking import hide_values
from airflow_provider_arroyo.links import ArroyoPipelineLink
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.arguments import as_string, check_early
from airflow_provider_arroyo.operators.base import ArroyoOperator
from airflow_provider_arroyo.operators.connected import TaskEnd
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point
from airflow_provider_arroyo.text import duration, shorten

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_arroyo.client.udf import Udf
    from airflow_provider_arroyo.pipelines.preview import Preview

_log = logging.getLogger(__name__)

MAX_ROWS = 10_000
_SHOWN_ROWS, _SHOWN_COLUMNS = 5, 500

_SQL = r"(?i)\s*(--|/\*|\(|(select|insert|create|with|set|values)\b)"

_OF_ARROYO = (
    "If it is one of Arroyo's own variables, keep Airflow from rendering it: "
    "{% raw %}{{ NAME }}{% endraw %}, or query=literal(...) from airflow.sdk for SQL without templates."
)


def is_path(query: Any) -> bool:
    """Return whether a query is a file path: one line that ends in ``.sql`` and does not begin like SQL."""
    return (
        isinstance(query, str) and query.endswith(".sql") and "\n" not in query and not re.match(_SQL, query)
    )


def rendered_query(query: Any) -> str:
    """Return a rendered query, without a byte order mark.

    :raises ValueError: if it is not SQL, for example a path that was not read.
    """
    text = check_sql(as_string(query, "query"))
    if is_path(text.strip()):
        raise ValueError(
            f"query: {text.strip()!r} looks like the path of a file that was not read. Only a path in the DAG file "
            "itself is read: query='sql/a.sql' or expand_kwargs([{'pipeline_name': 'a', 'query': 'sql/a.sql'}]); "
            "one from another task or a template is not. Pass the SQL instead: Path(path).read_text()."
        )
    return text


class ArroyoQueryOperator(ArroyoOperator):
    """The base class of the operators that take SQL."""

    # Airflow would treat every templated field with this ending as a path, including names and tags.
    template_ext: Sequence[str] = ()
    template_fields_renderers: ClassVar[dict[str, str]] = {"query": "sql"}

    def __init__(
        self,
        *,
        query: str,
        udfs: Sequence[Any] = (),
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(api_outage_tolerance=api_outage_tolerance, arroyo_conn_id=arroyo_conn_id, **kwargs)
        self.query: Any = check_early(check_text, query, "query")
        self.udfs = udfs
        if udfs != ():
            self._checked_udfs()

    def _checked_udfs(self) -> tuple[Udf, ...]:
        """Return the UDFs as the client takes them.

        :raises ValueError: names the one that is invalid.
        """
        from airflow_provider_arroyo.client.udf import as_udfs

        return as_udfs(self.udfs)

    def resolve_template_files(self) -> None:
        """Read the file when the DAG is parsed, so that a changed file makes a new version of the DAG."""
        if is_path(self.query):
            try:
                self.query = _source(self.get_template_env(), self.query)
            except ArroyoArgumentError as err:
                # The task raises it when it runs.
                _log.warning("DAG %s, task %s: %s", self.dag_id, self.task_id, err)
        super().resolve_template_files()

    def _render_field(
        self, field: str, context: Context, jinja_env: jinja2.Environment, seen_oids: set[int]
    ) -> None:
        """Render one field. Errors in ``query`` say what to do.

        Airflow also renders the unmapped operator, whose literal path has not been read yet.
        """
        # What another task returned is not rendered, so that no data becomes a template.
        is_template = field == "query" and isinstance(self.query, str) and id(self.query) not in seen_oids
        try:
            if is_template:
                query = _source(jinja_env, self.query) if is_path(self.query) else self.query
                self.query = self.render_query(query, context, jinja_env, seen_oids)
            else:
                super()._render_field(field, context, jinja_env, seen_oids)
        finally:
            # Also of one that cannot be rendered, which Airflow shows as it is.
            if field == "query" and isinstance(self.query, str):
                hide_secrets(self.query)

    def render_query(
        self,
        query: str,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Return rendered SQL.

        :param query: the template.
        :param context, jinja_env, seen_oids: as Airflow passes them.
        :raises ArroyoArgumentError: if it cannot be rendered.
        """
        from jinja2 import TemplateError, UndefinedError

        try:
            return self.render_template(query, context, jinja_env, seen_oids)
        except UndefinedError as err:
            what = f"{err.message} in Airflow's templates"
        except TemplateError as err:
            what = f"it is not a valid template: {err}"
        raise ArroyoArgumentError(f"query: {what}. {_OF_ARROYO}") from None


def hide_secrets(sql: str) -> None:
    """Mask the secrets of some SQL in the task's log and on the page of rendered fields.

    :param sql: the SQL.
    """
    from airflow_provider_arroyo.client.sql_secrets import secret_values

    hide_values(secret_values(sql))


def _source(jinja_env: jinja2.Environment, path: str) -> str:
    """Return the text of a file in the DAG's folder or its ``template_searchpath``."""
    from jinja2 import TemplateNotFound

    loader = jinja_env.loader
    if loader is None:
        raise ArroyoArgumentError(f"query: the file {path!r} can only be read in a DAG")
    try:
        return loader.get_source(jinja_env, path)[0]
    except (TemplateNotFound, OSError):
        folders = ", ".join(map(str, getattr(loader, "searchpath", ())))
        why = f"was not found in {folders}. Correct the path, or set the DAG's template_searchpath"
    except UnicodeDecodeError:
        why = "is not UTF-8"
    raise ArroyoArgumentError(f"query: the file {path!r} {why}") from None


class ArroyoValidateQueryOperator(ArroyoQueryOperator):
    """Let Arroyo plan SQL without running it, and fail if Arroyo refuses it.

    :param query: the SQL or, if it is one line that ends in ``.sql``, the path of a file in the DAG's folder or its
        ``template_searchpath``. Templated.
    :param udfs: UDFs that the SQL uses, default none: each is its source in Rust, or a mapping with ``definition``
        and ``language``. Not templated, since source code contains braces.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :returns: ``graph``: the ``nodes`` (``node_id, operator, description, parallelism``) and ``edges`` (``src_id,
        dest_id, key_type, value_type, edge_type``) of the dataflow that Arroyo would run, without secrets.
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if Arroyo refuses the SQL; with each message, its line and column, and the marked
        position.
    """

    template_fields: Sequence[str] = ("query", "arroyo_conn_id")
    ui_color = "#f4f0d8"
    _step = "Validating the SQL"

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Validate the SQL; return the task's result."""
        from airflow_provider_arroyo.client.sql_secrets import secret_values
        from airflow_provider_arroyo.pipelines.sql_errors import check_query

        with self._rendered_arguments():
            query, udfs = rendered_query(self.query), self._checked_udfs()
        graph = check_query(self._client(), query, udfs)
        self.log.info("Arroyo accepts the SQL: %d operators", len(graph.nodes))
        return {"graph": asdict(graph.redacted(secret_values(query)))}


class ArroyoPreviewQueryOperator(ArroyoQueryOperator):
    """Run SQL for a short time, return its rows, and fail if they do not pass a check.

    The SQL must end with a ``SELECT``; its rows are returned. Sinks are not written to unless ``enable_sinks`` is
    True. The preview is stopped however the task ends, and Arroyo stops it after a minute in any case.

    :param query: the SQL or, if it is one line that ends in ``.sql``, the path of a file in the DAG's folder or its
        ``template_searchpath``. Templated.
    :param max_rows: how many rows to read, 1 to 10,000, default 100. Reading also ends at 1 MB of rows.
    :param timeout: how long to read, from the start of the preview, default 30 seconds; a timedelta or seconds.
        Reading fewer rows than ``max_rows``, or none, is not an error; let ``check`` decide. If the preview does not
        run within this time, the task fails.
    :param check: a function that gets the list of rows, and raises an exception or returns False to fail the task;
        default None accepts any rows.
    :param udfs: UDFs that the SQL uses, default none: each is its source in Rust, or a mapping with ``definition``
        and ``language``. Not templated, since source code contains braces.
    :param enable_sinks: whether the sinks of the SQL are written to, default False.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason`` of the preview,
        ``rows`` (each a dict) and ``missed_rows`` (how many rows were produced before reading began).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if Arroyo refuses the SQL.
    :raises ArroyoTaskError: if the preview fails, restarts without any rows or never runs, or its rows do not pass
        the check.
    """

    template_fields: Sequence[str] = ("query", "arroyo_conn_id")
    operator_extra_links: Collection[BaseOperatorLink] = (ArroyoPipelineLink(),)
    ui_color = "#e8e0f4"
    _step = "The preview"
    _preview: Preview | None = None

    def __init__(
        self,
        *,
        query: str,
        max_rows: int = 100,
        timeout: timedelta | float = timedelta(seconds=30),
        check: Callable[[list[dict[str, Any]]], Any] | None = None,
        udfs: Sequence[Any] = (),
        enable_sinks: bool = False,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            query=query,
            udfs=udfs,
            api_outage_tolerance=api_outage_tolerance,
            arroyo_conn_id=arroyo_conn_id,
            **kwargs,
        )
        if check is not None and not callable(check):
            raise ValueError(f"check must be a function of the rows, got {check!r}")
        self.max_rows = check_integer(max_rows, "max_rows", most=MAX_ROWS)
        self.timeout = check_duration(timeout, "timeout", positive=True)
        self.check = check
        self.enable_sinks = check_bool(enable_sinks, "enable_sinks")

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Run the preview and read its rows; return the task's result."""
        from airflow_provider_arroyo.pipelines.preview import Preview
        from airflow_provider_arroyo.pipelines.sql_errors import check_query

        with self._rendered_arguments():
            query, udfs = rendered_query(self.query), self._checked_udfs()
        client = self._client()
        # Its error messages have line and column, which those of a refused preview lack.
        check_query(client, query, udfs)
        self._preview = preview = Preview(client)
        try:
            pipeline = self._ref(preview.start(query, udfs=udfs, enable_sinks=self.enable_sinks))
            self._show_link(pipeline)
            self._log_begin("Preview started", pipeline)
            seen = preview.read(max_rows=self.max_rows, seconds=self.timeout.total_seconds())
        finally:
            preview.stop()
        if seen.has_failed and seen.job is not None:
            from airflow_provider_arroyo.monitoring.result import WaitResult

            goal = "Running or Finished without a restart"
            self._fail(WaitResult(outcome=Outcome.FAILED, job=seen.job, goal=goal), pipeline)
        if not seen.has_run:
            state = seen.job.state if seen.job else "without a job"
            raise ArroyoError(
                f"{pipeline.label} did not run within {duration(self.timeout.total_seconds())} (timeout): it was "
                f"{state}. Check Arroyo's controller and workers, or allow more time."
            )
        if not seen.rows:
            self.log.warning("The preview returned no rows")
        self._run_check(seen.rows)
        return {**self._result(pipeline, seen.job, missed_rows=seen.missed_rows), "rows": seen.rows}

    def on_kill(self) -> None:
        """Stop the preview."""
        if self._preview is not None:
            with self._new_client() as client:
                self._preview.stop(client)

    def _run_check(self, rows: list[dict[str, Any]]) -> None:
        if self.check is None:
            return
        try:
            passed = self.check(rows)
        except AirflowException:
            # The check's own decision, such as a skip.
            raise
        except Exception as err:  # noqa: BLE001  # whatever a user's function raises
            said = f"{type(err).__name__}: {shorten(str(err), 2000)}"
        else:
            if passed is None or passed:
                return
            said = f"it returned {passed!r}"
        shown = "".join(f"\n  {shorten(str(row), _SHOWN_COLUMNS)}" for row in rows[:_SHOWN_ROWS])
        more = f"\n  … and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
        raise TaskEnd(
            ArroyoTaskError(
                f"The check of the preview's {len(rows)} rows failed: {said}. Rows:{shown or ' none'}{more}"
            )
        )
