"""Code that users write. A type checker finds no errors, and infers the right types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type

from airflow.sdk import DAG, AssetWatcher, BaseOperatorLink

from airflow_provider_arroyo.assets import pipeline_asset
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.links import ArroyoPipelineLink
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeletePipelineOperator,
    ArroyoDeployPipelineOperator,
    ArroyoEnsureConnectionProfileOperator,
    ArroyoEnsureConnectionTableOperator,
    ArroyoEnsureUdfOperator,
    ArroyoPreviewQueryOperator,
    ArroyoPrunePipelinesOperator,
    ArroyoRestartPipelineOperator,
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
    ArroyoUpdatePipelineOperator,
    ArroyoValidateQueryOperator,
    pipelines_from_folder,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.arroyo import (
    ArroyoCheckpointSensor,
    ArroyoMetricSensor,
    ArroyoPipelineSensor,
)
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineEventTrigger


class TeamLink(BaseOperatorLink):
    @property
    def name(self) -> str:
        return "Team"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return "https://teams.example.com"


with DAG("streams", schedule=None):
    submit = ArroyoSubmitPipelineOperator(
        task_id="submit",
        pipeline_name="orders",
        query="sql/orders.sql",
        parallelism="{{ params.parallelism }}",
        checkpoint_interval=timedelta(seconds=10),
        env_vars={"TOPIC": "orders"},
        stop_on_kill="checkpoint",
        timeout=600,
        retries=3,
    )
    output: Any = submit.output  # Airflow's own type for it cannot be indexed
    watch = ArroyoPipelineSensor(
        task_id="watch",
        pipeline_id=output["pipeline_id"],
        target_states=["Running"],
        stable_for=60,
        mode="reschedule",
        poke_interval=30,
    )
    data = ArroyoCheckpointSensor(
        task_id="data",
        pipeline_name="orders",
        began_after="{{ data_interval_end }}",
        max_age=timedelta(minutes=5),
    )
    lag = ArroyoMetricSensor(
        task_id="lag", pipeline_name="orders", metric="messages_recv", operator="source", above=1
    )
    restart = ArroyoRestartPipelineOperator(task_id="restart", pipeline_name="orders", force=True)
    update = ArroyoUpdatePipelineOperator(task_id="update", pipeline_name="orders", parallelism=4)
    stop = ArroyoStopPipelineOperator(
        task_id="stop", pipeline_id=output["pipeline_id"], mode="graceful", deferrable=True
    )
    delete = ArroyoDeletePipelineOperator(task_id="delete", pipeline_name="orders", if_missing="skip")
    validate = ArroyoValidateQueryOperator(task_id="validate", query="SELECT 1")
    preview = ArroyoPreviewQueryOperator(
        task_id="preview", query="SELECT 1", check=lambda rows: len(rows) > 0, timeout=timedelta(minutes=1)
    )
    profile = ArroyoEnsureConnectionProfileOperator(
        task_id="profile", name="kafka", connector="kafka", config={"bootstrapServers": "kafka:9092"}
    )
    table = ArroyoEnsureConnectionTableOperator(
        task_id="table", name="orders", connector="kafka", config={}, connection_profile="kafka"
    )
    udf = ArroyoEnsureUdfOperator(task_id="udf", definition=Path("udfs/parse.rs").name)
    submit >> watch >> restart >> update >> stop >> delete

    specs = pipelines_from_folder(Path(__file__).parent / "pipelines", group="shop")
    assert_type(specs, list[dict[str, Any]])
    deploy = ArroyoDeployPipelineOperator.partial(task_id="deploy", group="shop").expand_kwargs(specs)
    prune = ArroyoPrunePipelinesOperator(task_id="prune", group="shop", keep=specs)
    deploy >> prune


class StopForTeam(ArroyoStopPipelineOperator):
    """An operator of a user: it has a further templated field and link."""

    template_fields = (*ArroyoStopPipelineOperator.template_fields, "team")
    operator_extra_links = (*ArroyoStopPipelineOperator.operator_extra_links, TeamLink())

    def __init__(self, *, team: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.team = team


class EnsureUdf(ArroyoEnsureUdfOperator):
    template_fields: Sequence[str] = (*ArroyoEnsureUdfOperator.template_fields, "prefix")


orders = pipeline_asset(
    host="arroyo.example.com",
    pipeline_name="orders",
    watchers=[
        AssetWatcher(
            name="orders_dies",
            trigger=ArroyoPipelineEventTrigger(pipeline_name="orders", states=["Failed"], max_restarts=5),
        )
    ],
)
with DAG("orders_died", schedule=[orders]):
    pass


def reason(pipeline_id: str) -> str | None:
    """Use the hook as a user's Python task does."""
    hook = ArroyoHook(arroyo_conn_id="arroyo_default")
    try:
        job = hook.get_job(pipeline_id)
    except ArroyoNotFoundError as err:
        assert_type(err.status, int)
        return None
    except ArroyoError as err:
        raise ArroyoTaskError(str(err), err) from err
    if job is None:
        raise ArroyoFatalTaskError("no job")
    assert_type(job.run_id, int)
    assert_type(hook.get_pipeline(pipeline_id).name, str)
    return job.failure.error if job.failure else None


def try_it() -> str | None:
    """Use the sandbox as a user's tests do."""
    with ArroyoSandbox(arroyo_version="0.15", speed=10) as sandbox:
        assert_type(sandbox.url, str)
        assert_type(sandbox.faults.fail("orders", error="topic is gone"), int)
        return sandbox.state("orders")


LINK: str = ArroyoPipelineLink().name
RESULT: dict[str, Any] = submit.execute({})
