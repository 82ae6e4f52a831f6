"""The operator that deletes the pipelines that a group no longer contains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import check_bool, check_integer
from airflow_provider_arroyo.client.names import check_pipeline_name
from airflow_provider_arroyo.operators.arguments import as_string, check_early, is_final
from airflow_provider_arroyo.operators.base import ArroyoOperator
from airflow_provider_arroyo.operators.deploy import DEFAULT_GROUP
from airflow_provider_arroyo.operators.lineage import OpenLineageMixin
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point
from airflow_provider_arroyo.pipelines.kept import names_to_keep, queries_of

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context


class ArroyoPrunePipelinesOperator(OpenLineageMixin, ArroyoOperator):
    """Stop and delete the pipelines that a group deployed earlier and no longer contains.

    It only touches pipelines that :class:`.ArroyoDeployPipelineOperator` created for this group, in this Airflow's
    namespace. It logs which ones before it begins. Each is stopped with a final checkpoint (without, if that does
    not finish within 2 minutes), and deleted together with its state.

    It deletes no pipeline whose SQL was deployed again later, under a new name or in another group: its file was
    probably renamed or moved, and the new pipeline does not have its state. It deletes the others, then fails
    and names both. To keep the old pipeline, set ``pipeline_name`` to the old name in the settings of the file.
    If you do not need it, delete it with :class:`.ArroyoDeletePipelineOperator`.

    It does not touch pipelines that were deployed after this DAG run was due, since ``keep`` may be older.

    :param group: the group, default ``"default"``. Templated.
    :param keep: names of the pipelines to keep, or the result of ``pipelines_from_folder`` for this group; at least
        one, since an empty folder is probably a mistake. Templated.
    :param max_deletions: how many pipelines may be deleted, default 10. If there are more, the task fails and changes
        nothing.
    :param dry_run: whether only to log what would be deleted, default False.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :returns: ``deleted`` (a list of ``{"pipeline_id", "pipeline_name"}``), ``kept`` (names) and ``dry_run``.
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if ``keep`` is empty or a folder of another group, or if more than
        ``max_deletions`` would be deleted; once the others are deleted, if a pipeline was renamed.
    :raises ArroyoTaskError: if a pipeline does not stop, or Arroyo stays unreachable.
    """

    template_fields: Sequence[str] = ("group", "keep", "arroyo_conn_id")
    ui_color = "#f2e0e0"
    _queries: Mapping[str, str] | None = None
    """The SQL of the pipelines to keep, by name, as far as it is known."""

    def __init__(
        self,
        *,
        keep: Any,
        group: str = DEFAULT_GROUP,
        max_deletions: int = 10,
        dry_run: bool = False,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(arroyo_conn_id=arroyo_conn_id, api_outage_tolerance=api_outage_tolerance, **kwargs)
        if isinstance(keep, list | tuple | set) and is_final(keep):
            names_to_keep(keep)
        self.group = check_early(check_pipeline_name, group, "group")
        self.keep = keep
        self.max_deletions = check_integer(max_deletions, "max_deletions", least=0)
        # ``BaseOperator`` has a method of that name.
        self.is_dry_run = check_bool(dry_run, "dry_run")

    def _render_field(
        self, field: str, context: Context, jinja_env: jinja2.Environment, seen_oids: set[int]
    ) -> None:
        """Render one field; reduce ``keep`` to names, since Airflow shows rendered fields to everyone."""
        super()._render_field(field, context, jinja_env, seen_oids)
        if field == "keep":
            self._queries = queries_of(self.keep)
            if isinstance(self.keep, list | tuple):
                self.keep = [_name_of(one) for one in self.keep]

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Delete the pipelines that the group no longer contains; return the task's result."""
        from airflow_provider_arroyo.pipelines.prune import prune

        with self._rendered_arguments():
            group = check_pipeline_name(as_string(self.group, "group"), "group")
            keep = names_to_keep(self.keep, group)
        run_after = getattr(context.get("dag_run"), "run_after", None)
        self._step = f"Pruning group {group!r}"
        pruned = prune(
            self._client(),
            group=group,
            namespace=self._namespace(),
            keep=keep,
            queries=self._queries or queries_of(self.keep),
            list_age=None if run_after is None else datetime.now(UTC) - run_after,
            max_deletions=self.max_deletions,
            dry_run=self.is_dry_run,
        )
        return {
            "deleted": [{"pipeline_id": one.id, "pipeline_name": one.name} for one in pruned.deleted],
            "kept": list(pruned.kept),
            "dry_run": self.is_dry_run,
        }


def _name_of(one: Any) -> Any:
    return {name: one.get(name) for name in ("group", "pipeline_name")} if isinstance(one, Mapping) else one
