"""A real Airflow as in production: on PostgreSQL, with several of each process that may be killed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from .airflow import Cluster
from .celery import CeleryAirflow, Redis
from .postgres import Postgres

LOCAL, CELERY = "LocalExecutor", "CeleryExecutor"

QUICK_TAKEOVER = {
    # Airflow notices a killed worker by its missing heartbeat: after 20 s and 5 s more, instead of 300 and 10.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    # The tasks of a killed scheduler: after 15 s and 15 s more, instead of 30 and 300.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    # For the triggers of a killed triggerer, LocalAirflow has settings.
    # Redis delivers again what a killed Celery worker had received: after 60 s, instead of a day.
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "60",
}
"""Settings that shorten the time until a killed process is replaced."""


@contextmanager
def running(
    executor: str,
    *,
    home: Path,
    dags_folder: Path,
    env: Mapping[str, str],
    workers: int = 2,
    triggerers: int = 2,
) -> Iterator[Cluster]:
    """Run an Airflow on PostgreSQL.

    :param executor: ``LOCAL`` or ``CELERY``, which runs on Redis.
    :param home: folder for ``AIRFLOW_HOME``; made when missing.
    :param dags_folder: folder with DAG files.
    :param env: more environment for every Airflow process: connections, settings.
    :param workers: how many Celery workers, default 2.
    :param triggerers: how many triggerers, default 2.
    :raises NoPostgresError: where there is no PostgreSQL.
    :raises NoRedisError: where there is no Redis, and it is needed.
    """
    with ExitStack() as stack:
        database = stack.enter_context(Postgres())
        settings = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url,
            "AIRFLOW__CORE__EXECUTOR": executor,
            **env,
        }
        arguments: dict[str, Any] = {"home": home, "dags_folder": dags_folder, "triggerers": triggerers}
        if executor == CELERY:
            settings |= stack.enter_context(Redis()).settings(database.url)
            yield stack.enter_context(CeleryAirflow(workers=workers, env=settings, **arguments))
        else:
            yield stack.enter_context(Cluster(env=settings, **arguments))
