"""DAGs of the end-to-end tests: a wait that stays open, one that must defer, and some that must fail."""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeployPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor

ENDLESS = """
CREATE TABLE source WITH (connector = 'impulse', event_rate = '10');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO sink SELECT counter FROM source;
"""
FILE_IS_MISSING = """
CREATE TABLE source (value TEXT) WITH (
    connector = 'single_file', path = '/nonexistent/input.json', format = 'json', type = 'source'
);
CREATE TABLE sink (value TEXT) WITH (connector = 'blackhole');
INSERT INTO sink SELECT value FROM source;
"""
SUBMITTED = "{{ ti.xcom_pull('submit')['pipeline_id'] }}"

with DAG("e2e_held_open", schedule=None):
    # The test stops the pipeline at its end.
    (
        ArroyoSubmitPipelineOperator(task_id="submit", pipeline_name="held_open", query=ENDLESS)
        >> ArroyoPipelineSensor(
            task_id="watch", pipeline_id=SUBMITTED, target_states=["Stopped"], deferrable=True
        )
    )

with DAG("e2e_submit_defers", schedule=None):
    # Without time in the worker, even a wait of a few seconds defers.
    ArroyoSubmitPipelineOperator(
        task_id="submit",
        pipeline_name="submit_defers",
        # This distinguishes its metrics from those of other tasks.
        arroyo_conn_id="arroyo_deferred",
        query=ENDLESS,
        stable_for=timedelta(seconds=8),
        deferrable=True,
        defer_after=0,
    )

with DAG("e2e_ends_in_triggerer", schedule=None):
    (
        ArroyoSubmitPipelineOperator(
            task_id="submit", pipeline_name="ends_in_triggerer", query=ENDLESS, wait_for=None
        )
        >> ArroyoPipelineSensor(
            task_id="watch",
            pipeline_id=SUBMITTED,
            stable_for=timedelta(seconds=6),
            deferrable=True,
            defer_after=0,
            end_from_trigger=True,
        )
    )

with DAG("e2e_deploy_defers", schedule=None):
    # Two versions in one run; each of the waits for the second one defers.
    first, second = (
        ArroyoDeployPipelineOperator(
            task_id=task_id,
            pipeline_name="deploy_defers",
            query=query,
            checkpoint_interval=timedelta(seconds=1),
            stable_for=timedelta(seconds=5),
            allow_state_loss=True,
            deferrable=True,
            defer_after=0,
        )
        for task_id, query in (("first", ENDLESS), ("second", ENDLESS.replace("'10'", "'20'")))
    )
    first >> second

with DAG("e2e_bad_sql", schedule=None):
    # With retries, to show that an error that no retry can fix is not retried.
    ArroyoSubmitPipelineOperator(
        task_id="submit",
        pipeline_name="bad_sql",
        query="SELECT nope FROM nowhere;",
        retries=2,
        retry_delay=timedelta(seconds=1),
    )

with DAG("e2e_fails_at_once", schedule=None):
    ArroyoSubmitPipelineOperator(
        task_id="submit", pipeline_name="fails_at_once", query=FILE_IS_MISSING, deferrable=False
    )

with DAG("e2e_fails_later", schedule=None):
    # The test injects the failure.
    ArroyoSubmitPipelineOperator(
        task_id="submit",
        pipeline_name="fails_later",
        query=ENDLESS,
        stable_for=timedelta(minutes=5),
        deferrable=True,
        defer_after=0,
    )
