"""Keep streaming SQL in git: one run makes the server match a folder of SQL files, and deletes what left it.

Trigger it when something is merged (`airflow dags trigger arroyo_deploy_on_merge`), or give it a schedule. A run that
finds everything as it should be changes nothing. The folder is read when the DAG runs, so a new file is a new mapped
task.
"""

from pathlib import Path

from airflow.sdk import DAG, task

from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeployPipelineOperator,
    ArroyoPrunePipelinesOperator,
    pipelines_from_folder,
)

with DAG(
    dag_id="arroyo_deploy_on_merge",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["arroyo", "example"],
    doc_md=__doc__,
):
    # One set of arguments for each file; its settings stand in the comment at its top. A group is what is deployed
    # and pruned together.
    specs = task(pipelines_from_folder)(str(Path(__file__).parent / "pipelines"), group="{{ dag.dag_id }}")

    # One mapped task for each pipeline, shown by its name. Other SQL replaces a pipeline, and Arroyo cannot carry its
    # state over: allow_state_loss says that this is accepted.
    deploy = ArroyoDeployPipelineOperator.partial(task_id="deploy", allow_state_loss=True).expand_kwargs(
        specs
    )

    # Deletes what this group deployed earlier and the folder no longer has; nothing else, and never more than five.
    prune = ArroyoPrunePipelinesOperator(
        task_id="prune", group="{{ dag.dag_id }}", keep=specs, max_deletions=5
    )

    deploy >> prune
