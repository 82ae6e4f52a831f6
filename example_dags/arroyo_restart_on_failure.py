"""When a pipeline dies, diagnose it, restart it at most three times an hour, and send an alert.

No task waits for the pipeline. An asset watcher polls it in the triggerer, and starts this DAG when the
pipeline `orders_kept_alive` fails, or restarts by itself more than five times in ten minutes.
"""

import logging
import time
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import DAG, AssetWatcher, BaseNotifier, Variable, task

from airflow_provider_arroyo.assets import pipeline_asset
from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.operators.arroyo import ArroyoRestartPipelineOperator
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineEventTrigger

MAX_RESTARTS_PER_HOUR = 3
RESTARTS = "arroyo_restarts_of_orders_kept_alive"
"""The Airflow variable with the times at which this DAG restarted the pipeline."""

ORDERS = pipeline_asset(
    host="arroyo.example.com",
    pipeline_name="orders_kept_alive",
    watchers=[
        AssetWatcher(
            name="orders_kept_alive_dies",
            trigger=ArroyoPipelineEventTrigger(
                pipeline_name="orders_kept_alive",
                states=["Failed"],
                max_restarts=5,
                restart_window=timedelta(minutes=10),
            ),
        )
    ],
)


class LogNotifier(BaseNotifier):
    """Logs a message. Replace it with a notifier for Slack, email or a pager."""

    template_fields = ("message",)

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def notify(self, context: Any) -> None:
        logging.getLogger(__name__).warning("%s", self.message)


with DAG(
    dag_id="arroyo_restart_on_failure",
    schedule=[ORDERS],
    catchup=False,
    max_active_runs=1,
    default_args={"on_failure_callback": LogNotifier("orders_kept_alive is down: {{ ti.task_id }} failed")},
    tags=["arroyo", "example"],
    doc_md=__doc__,
):

    @task
    def diagnose(triggering_asset_events: Any = None) -> dict[str, str]:
        """Diagnose the pipeline, unless another run has begun since it failed."""
        events = [event for found in (triggering_asset_events or {}).values() for event in found]
        if not events:
            raise AirflowSkipException("There is no event: this run was triggered manually")
        # An event may arrive late or twice, so check whether the pipeline is still the one that failed.
        event = events[-1].extra["payload"]
        hook = ArroyoHook()
        job = hook.get_job(event["pipeline_id"])
        if job is None or job.id != event["job_id"]:
            raise AirflowSkipException("The pipeline has been deleted or replaced since then")
        # A pipeline that keeps restarting by itself is in another run soon.
        if event["event"] != "Restarts" and job.run_id != event["run_id"]:
            raise AirflowSkipException("Another run has begun since then")
        diagnosis = str(hook.diagnose(event["pipeline_id"]))
        logging.getLogger(__name__).info("%s", diagnosis)
        return {"pipeline_id": event["pipeline_id"], "diagnosis": diagnosis}

    @task
    def count_restart() -> None:
        """Fail if the pipeline was restarted too often, so that someone looks at it."""
        now = time.time()
        restarts = [at for at in Variable.get(RESTARTS, default=[], deserialize_json=True) if at > now - 3600]
        if len(restarts) >= MAX_RESTARTS_PER_HOUR:
            raise AirflowFailException(f"Restarted {len(restarts)} times within an hour")
        Variable.set(RESTARTS, [*restarts, now], serialize_json=True)

    restart = ArroyoRestartPipelineOperator(
        task_id="restart",
        pipeline_id="{{ ti.xcom_pull('diagnose')['pipeline_id'] }}",
        until_checkpoint=True,
        on_success_callback=LogNotifier(
            "orders_kept_alive was restarted. {{ ti.xcom_pull('diagnose')['diagnosis'] }}"
        ),
    )

    diagnose() >> count_restart() >> restart
