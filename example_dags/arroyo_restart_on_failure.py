"""Start a stream again when it dies: diagnose it, restart it at most three times an hour, and alert people.

No task waits for the stream. The asset's watcher polls in the triggerer, and starts this DAG when the pipeline
`orders_kept_alive` fails, or restarts by itself more than five times in ten minutes.
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
"""The Airflow variable that holds when this DAG restarted the pipeline."""

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
    """Stands for the notifier of your choice: Slack, e-mail, a pager."""

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
        """Say what is wrong, unless that was dealt with externally."""
        events = [event for found in (triggering_asset_events or {}).values() for event in found]
        if not events:
            raise AirflowSkipException("Nothing happened: this run was started by hand")
        # An event may come twice, and late: what counts is how the pipeline is now.
        event = events[-1].extra["payload"]
        hook = ArroyoHook()
        job = hook.get_job(event["pipeline_id"])
        if job is None or (job.id, job.run_id) != (event["job_id"], event["run_id"]):
            raise AirflowSkipException("Another run has begun since then")
        diagnosis = str(hook.diagnose(event["pipeline_id"]))
        logging.getLogger(__name__).info("%s", diagnosis)
        return {"pipeline_id": event["pipeline_id"], "diagnosis": diagnosis}

    @task
    def count_restart() -> None:
        """Give up on a pipeline that was restarted too often, and leave it to people."""
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
