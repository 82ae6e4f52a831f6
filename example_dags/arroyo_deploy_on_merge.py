"""Make the server match a folder of SQL files, and delete pipelines whose file is gone.

It needs a connection `arroyo_default` of type Arroyo. Trigger the DAG on each merge (`airflow dags trigger
arroyo_deploy_on_merge`), or give it a schedule. If nothing has changed, a run changes nothing. The folder
is read when the DAG runs, so a new file becomes a new mapped task.
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
    # Returns a set of arguments for each file. A file's settings are in the comment at its top. A group is
    # a set of pipelines that are deployed and pruned together.
    specs = task(pipelines_from_folder)(str(Path(__file__).parent / "pipelines"), group="{{ dag.dag_id }}")

    # One mapped task for each pipeline; Airflow shows it under the pipeline's name. If the SQL changes, the
    # pipeline is replaced and loses its state. allow_state_loss=True accepts that; strict=False lets a file
    # set it to false.
    deploy = ArroyoDeployPipelineOperator.partial(task_id="deploy", allow_state_loss=True).expand_kwargs(
        specs, strict=False
    )

    # Deletes only pipelines that this group deployed earlier and that are no longer in the folder, at most
    # five.
    prune = ArroyoPrunePipelinesOperator(
        task_id="prune", group="{{ dag.dag_id }}", keep=specs, max_deletions=5
    )

    deploy >> prune
