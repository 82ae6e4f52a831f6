"""The base class of the operators that take SQL: ``query`` is SQL, or the path of a file that contains SQL."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_arroyo.client.checks import check_sql, check_text
from airflow_provider_arroyo.client.udf import as_udfs
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError
from airflow_provider_arroyo.hooks.masking import hide_values
from airflow_provider_arroyo.operators.arguments import as_string, check_early
from airflow_provider_arroyo.operators.base import ArroyoOperator

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context

_log = logging.getLogger(__name__)

_SQL = re.compile(r"\s*(--|/\*|\(|(select|insert|create|with|set|values)\b)", re.IGNORECASE)

_OF_ARROYO = (
    "If it is one of Arroyo's own variables, keep Airflow from rendering it: "
    "{% raw %}{{ NAME }}{% endraw %}, or query=literal(...) from airflow.sdk for SQL without templates."
)


def is_path(query: Any) -> bool:
    """Return whether a query is a file path: one line that ends in ``.sql`` and does not begin like SQL."""
    return isinstance(query, str) and query.endswith(".sql") and "\n" not in query and not _SQL.match(query)


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

    def __init__(self, *, query: str, udfs: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.query: Any = check_early(check_text, query, "query")
        as_udfs(udfs)
        self.udfs = udfs

    def resolve_template_files(self) -> None:
        """Read the file when the DAG is parsed, so that a changed file makes a new version of the DAG."""
        if is_path(self.query):
            try:
                self.query = _source(self.get_template_env(), self.query)
            except ArroyoArgumentError as err:
                # The task raises it when it runs.
                _log.warning("%s", err)
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
        why = f"was not found in {', '.join(map(str, getattr(loader, 'searchpath', ())))}"
    except UnicodeDecodeError:
        why = "is not UTF-8"
    raise ArroyoArgumentError(f"query: the file {path!r} {why}") from None
