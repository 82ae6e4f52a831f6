"""The operator that begins a new run of a pipeline."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import check_bool
from airflow_provider_arroyo.operators.change import ArroyoChangeOperator
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from airflow_provider_arroyo.pipelines.change import Change, Changed


class ArroyoRestartPipelineOperator(ArroyoChangeOperator):
    """Begin a new run of a pipeline, by a restart or a resume, and wait until it runs.

    A running or failed pipeline is restarted, a stopped one is resumed. If it is between two runs or about to stop,
    the task first waits for that to end; a restart in which Arroyo is stuck is forced. A finished or ``Finishing``
    pipeline fails the task, since Arroyo ignores a restart of it. If a pipeline fails before the restart takes
    effect, the task waits for the new run all the same. Each try of the task begins another run.

    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id: the one that is alive, or else the newest. If
        several are alive, the task fails and lists them. Templated.
    :param force: whether a running or ``Restarting`` pipeline is restarted without a checkpoint, default False. It
        then continues from its last regular checkpoint.
    :param ignore_state: whether the new run starts without the state of the last checkpoint (Arroyo 0.16), default
        False. The log says which state is dropped. If the server requires that the pipeline is stopped first, the
        task stops it, with ``force`` immediately.
    :param until_checkpoint: whether a checkpoint of the new run must have finished, which proves that data flows;
        default False.
    :param stable_for: how long the pipeline must be ``Running`` in one run, default 2 seconds; a timedelta or
        seconds.
    :param max_restarts: how often it may restart by itself before the task fails; default None, any number until
        ``timeout``.
    :param timeout: how long the task may take, deferred or not, default 10 minutes; a timedelta or seconds.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param defer_after: how long to wait in the worker before deferring, default 15 seconds; a timedelta or seconds.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason``, ``action``
        (``restarted`` or ``resumed``) and ``changes`` (an empty list).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if the pipeline has finished, or the server is too old for ``ignore_state``.
    :raises ArroyoTaskError: if the pipeline is ``Finishing``, is stopped externally or does not run again in time, or
        Arroyo stays unreachable.
    """

    ui_color = "#ffeccc"
    _step = "Restarting a pipeline"

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        force: bool = False,
        ignore_state: bool = False,
        until_checkpoint: bool = False,
        stable_for: timedelta | float = timedelta(seconds=2),
        max_restarts: int | None = None,
        timeout: timedelta | float = timedelta(minutes=10),
        poll_interval: timedelta | float = 0.1,
        defer_after: timedelta | float = 15.0,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pipeline_id=pipeline_id,
            pipeline_name=pipeline_name,
            until_checkpoint=until_checkpoint,
            stable_for=stable_for,
            max_restarts=max_restarts,
            timeout=timeout,
            poll_interval=poll_interval,
            defer_after=defer_after,
            api_outage_tolerance=api_outage_tolerance,
            arroyo_conn_id=arroyo_conn_id,
            deferrable=deferrable,
            **kwargs,
        )
        self.force = check_bool(force, "force")
        self.ignore_state = check_bool(ignore_state, "ignore_state")

    def _request(self, change: Change) -> Changed:
        return change.restart(force=self.force, ignore_state=self.ignore_state)
