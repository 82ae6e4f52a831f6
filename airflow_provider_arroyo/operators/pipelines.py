"""Operators that submit and stop pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job, JobState, StopMode
from airflow_provider_arroyo.arroyo.spec import (
    PipelineSpec,
    as_udfs,
    check_checkpoint_interval,
    check_parallelism,
    check_text,
    check_text_map,
)
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
)
from airflow_provider_arroyo.monitoring.explain import Subject, explain
from airflow_provider_arroyo.monitoring.plan import Baseline, WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from airflow_provider_arroyo.monitoring.watched import Watched
from airflow_provider_arroyo.operators.arguments import (
    as_text,
    as_text_map,
    check_choice,
    check_duration,
    check_early,
    check_one_of_id_and_name,
    check_stop_mode,
    rendered_id_and_name,
)
from airflow_provider_arroyo.operators.base import DEFAULT_CONN_ID, WaitingOperator
from airflow_provider_arroyo.operators.waiting import as_failure

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.arroyo.details import Checkpoint
    from airflow_provider_arroyo.arroyo.submission import Submitted
    from airflow_provider_arroyo.monitoring.proof import StopRequest

WAIT_FOR = (JobState.RUNNING, JobState.FINISHED)
ON_EXISTING = ("adopt", "replace", "fail")
IF_MISSING = ("fail", "succeed")


class ArroyoSubmitPipelineOperator(WaitingOperator):
    """Submit a streaming SQL pipeline once, and wait until it runs, or has finished.

    However often the task is tried, one pipeline comes of it: every try looks for what an earlier one made.
    A task that is killed, cleared or timed out leaves the pipeline running; its next try takes it up.

    :param name: the pipeline's name. Templated.
    :param query: the SQL, or the path of a ``.sql`` file. Templated.
    :param parallelism: subtasks for each operator, 1 or more, default 1. Templated.
    :param checkpoint_interval: 1 second to 24 hours; default None leaves it to the server (10 seconds).
    :param udfs: functions that the SQL uses: each a source (Rust), or ``{"definition", "language"}``. Not
        templated, since source code is full of braces.
    :param tags: labels on the pipeline (Arroyo 0.16; on 0.15 they go into the SQL's first line). Templated.
    :param env_vars: environment of the pipeline's workers (Arroyo 0.16). Templated. Arroyo shows them to
        whoever may read its API: no place for secrets.
    :param scheduler_config: passed on to Arroyo's scheduler as it is (Arroyo 0.16).
    :param pipeline_id: the pipeline's id, chosen by you (Arroyo 0.16); default None derives one from the
        task. Templated.
    :param wait_for: ``"Running"`` (default), ``"Finished"`` for a pipeline whose sources have an end, or None
        not to wait.
    :param stable_for: how long ``Running`` must last, in one run, before it counts, default 2 seconds.
    :param on_existing: what to do with the pipeline of an earlier try: ``"adopt"`` (default: take it if it
        runs or has finished, resume it if it is stopped, restart it if it failed), ``"replace"`` (stop, delete
        and make it anew; its state is lost) or ``"fail"``. A cleared task that is to run a backfill once more
        needs ``"replace"``.
    :param on_kill: how to stop the pipeline if this task is ended before it is done: marked by somebody, or
        out of time (``"checkpoint"``, ``"graceful"``, ``"immediate"`` or ``"force"``). Default None: the
        pipeline goes on, and the log says how to stop it. It also goes on when the task is only moved, or
        cleared: then its next try takes it up.
    :param timeout: how long the wait may last, default 10 minutes.
    :return: ``pipeline_id, name, job_id, state, run_id, console_url``, and ``how`` (``created``, ``adopted``,
        ``resumed``, ``restarted`` or ``replaced``) and ``finished`` (whether it has finished already).
    :raises ValueError: on arguments out of range, before any call.
    :raises ArroyoTaskFailed: on what no retry mends: SQL that Arroyo refuses, a key that it does not accept.
    :raises ArroyoTaskError: when the pipeline fails, is stopped or deleted by somebody, is not there in time,
        or when Arroyo stays out of reach.
    """

    template_fields: Sequence[str] = (
        "name",
        "query",
        "parallelism",
        "tags",
        "env_vars",
        "pipeline_id",
        "arroyo_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "query": "sql",
        "tags": "json",
        "env_vars": "json",
    }
    ui_color = "#d8e9ff"

    def __init__(
        self,
        *,
        name: str,
        query: str,
        parallelism: int | str = 1,
        checkpoint_interval: timedelta | None = None,
        udfs: Sequence[Any] = (),
        tags: Mapping[str, str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        pipeline_id: str | None = None,
        wait_for: str | None = JobState.RUNNING.value,
        stable_for: timedelta | float = timedelta(seconds=2),
        on_existing: str = "adopt",
        on_kill: str | StopMode | None = None,
        timeout: timedelta | float = timedelta(minutes=10),
        poll_interval: float = 0.1,
        defer_after: float = 15.0,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            arroyo_conn_id=arroyo_conn_id,
            timeout=timeout,
            poll_interval=poll_interval,
            defer_after=defer_after,
            api_outage_tolerance=api_outage_tolerance,
            deferrable=deferrable,
            **kwargs,
        )
        check_early(check_text, name, "name")
        check_early(check_text, query, "query")
        check_early(check_parallelism, parallelism, "parallelism")
        check_early(check_text_map, tags or {}, "tags")
        check_early(check_text_map, env_vars or {}, "env_vars")
        as_udfs(udfs)
        if checkpoint_interval is not None:
            check_checkpoint_interval(checkpoint_interval)
        if wait_for is not None:
            check_choice(wait_for, "wait_for", WAIT_FOR)
        check_choice(on_existing, "on_existing", ON_EXISTING)
        self.name = name
        self.query = query
        self.parallelism = parallelism
        self.checkpoint_interval = checkpoint_interval
        self.udfs = udfs
        self.tags = tags
        self.env_vars = env_vars
        self.scheduler_config = scheduler_config
        self.pipeline_id = pipeline_id
        self.wait_for = None if wait_for is None else str(wait_for)
        self.stable_for = check_duration(stable_for, "stable_for")
        self.on_existing = on_existing
        self.on_kill_mode = None if on_kill is None else check_stop_mode(on_kill, "on_kill")

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit, then wait as ``wait_for`` says."""
        with self._task_errors():
            with self._rendered_arguments():
                spec, users_id = self._spec(), self._users_id()
            began = self.clock()
            submitted = self._submit(context, spec, users_id)
            pipeline = submitted.pipeline
            subject = self._subject(pipeline)
            self._show_link(context, subject)
            carry = {"how": submitted.how.value}
            self.log.info("%s was %s: %s", subject.label, submitted.how.value, subject.console_url)
            if self.wait_for is None:
                return self._submitted(subject, self._job(pipeline.id), submitted.how.value)
            deadline, limit = self._deadline(self.timeout)
            before = submitted.before
            plan = WaitPlan(
                pipeline_id=pipeline.id,
                targets=frozenset({self.wait_for}),
                deadline=deadline,
                limit=limit,
                stable_for=self.stable_for,
                finished_is_success=True,
                stopped_is_final=True,
                baseline=Baseline.of(before, asked_at=began) if before else None,
                outage_tolerance=self.api_outage_tolerance,
            )
            return self._wait(context, plan, subject, carry)

    def _spec(self) -> PipelineSpec:
        """Return what is to run, from the rendered arguments."""
        from airflow_provider_arroyo.arroyo.identity import check_user_tags

        tags = check_text_map(as_text_map(self.tags or {}, "tags"), "tags")
        check_user_tags(tags)
        return PipelineSpec(
            name=as_text(self.name, "name"),
            query=self.query,
            parallelism=check_parallelism(self.parallelism),
            checkpoint_interval=self.checkpoint_interval,
            udfs=as_udfs(self.udfs),
            tags=tags,
            env_vars=check_text_map(as_text_map(self.env_vars or {}, "env_vars"), "env_vars"),
            scheduler_config=self.scheduler_config,
        )

    def _users_id(self) -> str | None:
        if self.pipeline_id is None:
            return None
        return check_text(as_text(self.pipeline_id, "pipeline_id"), "pipeline_id")

    def _submit(self, context: Context, spec: PipelineSpec, users_id: str | None) -> Submitted:
        from airflow_provider_arroyo import __version__
        from airflow_provider_arroyo.arroyo.identity import Mark, Owner
        from airflow_provider_arroyo.arroyo.submission import OnExisting, Submission

        ti = context["ti"]
        owner = Owner(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index if ti.map_index is not None else -1,
        )
        key = owner.submit_key(spec.fingerprint)
        mark = Mark(key=key, owner=owner, try_number=ti.try_number, package_version=__version__)
        return Submission(
            self._arroyo,
            spec,
            mark,
            pipeline_id=users_id or owner.pipeline_id(key),
            pipeline_id_is_users=users_id is not None,
            on_existing=OnExisting(self.on_existing),
            log=self.log,
        ).run()

    def _finish(self, verdict: Verdict, subject: Subject, carry: Mapping[str, Any]) -> dict[str, Any]:
        if verdict.outcome is not Outcome.REACHED:
            self._fail(verdict, subject)
        return self._submitted(subject, verdict.job, carry.get("how"))

    def _submitted(self, subject: Subject, job: Job | None, how: Any) -> dict[str, Any]:
        finished = job is not None and job.state == JobState.FINISHED
        return self._result(subject, job, how=how, finished=finished)


class ArroyoStopPipelineOperator(WaitingOperator):
    """Stop a pipeline, and wait until it is at rest.

    One that is stopped or finished already is a success at once.

    :param pipeline_id: the pipeline. Templated. Either this or ``pipeline_name``.
    :param pipeline_name: its exact name instead; one that is alive goes before those at rest, and it is an
        error that lists them if several could be meant. Templated.
    :param mode: ``"checkpoint"`` (default: take a final checkpoint, so that it can be resumed where it was),
        ``"graceful"``, ``"immediate"`` or ``"force"``. Templated.
    :param wait: whether to wait until it is at rest, default True.
    :param require_checkpoint: whether the task fails if it is not proven that the stop made its final
        checkpoint, default False: ``checkpoint`` in the result is None then, and the log warns. Only with
        ``mode="checkpoint"`` and ``wait``.
    :param accept_failed: whether a pipeline that ends ``Failed`` is a success, with a warning; default False.
    :param if_missing: ``"fail"`` (default) or ``"succeed"``: what to do if there is no such pipeline.
    :param timeout: how long the wait may last, default 2 minutes.
    :return: ``pipeline_id, name, job_id, state, run_id, console_url``, and ``checkpoint`` (``{"epoch",
        "finish_time_micros"}`` of the proven final checkpoint, or None) and ``missing``.
    :raises ValueError: on arguments out of range, before any call.
    :raises ArroyoTaskError: when the pipeline failed, is not at rest in time, left no checkpoint where one is
        required, or is not there.
    """

    template_fields: Sequence[str] = ("pipeline_id", "pipeline_name", "mode", "arroyo_conn_id")
    ui_color = "#ffe3d8"

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        mode: str = StopMode.CHECKPOINT.value,
        wait: bool = True,
        require_checkpoint: bool = False,
        accept_failed: bool = False,
        if_missing: str = "fail",
        timeout: timedelta | float = timedelta(minutes=2),
        poll_interval: float = 0.1,
        defer_after: float = 15.0,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            arroyo_conn_id=arroyo_conn_id,
            timeout=timeout,
            poll_interval=poll_interval,
            defer_after=defer_after,
            api_outage_tolerance=api_outage_tolerance,
            deferrable=deferrable,
            **kwargs,
        )
        check_one_of_id_and_name(pipeline_id, pipeline_name)
        check_early(check_stop_mode, mode, "mode")
        check_choice(if_missing, "if_missing", IF_MISSING)
        if require_checkpoint and not wait:
            raise ValueError("require_checkpoint needs wait=True: without waiting there is nothing to prove")
        self.pipeline_id = pipeline_id
        self.pipeline_name = pipeline_name
        self.mode = mode
        self.wait = wait
        self.require_checkpoint = require_checkpoint
        self.accept_failed = accept_failed
        self.if_missing = if_missing

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask for the stop, then wait."""
        with self._task_errors():
            with self._rendered_arguments():
                named = rendered_id_and_name(self.pipeline_id, self.pipeline_name)
                mode = check_stop_mode(self.mode)
                if self.require_checkpoint and mode is not StopMode.CHECKPOINT:
                    raise ValueError(f"require_checkpoint needs mode 'checkpoint', got {mode.value!r}")
            try:
                pipeline = self._pipeline(*named)
                subject = self._subject(pipeline)
                self._show_link(context, subject)
                job = self._job(pipeline.id)
            except (ArroyoNotFoundError, ArroyoNoSuchNameError) as err:
                return self._missing(err)
            return self._stop(context, subject, job, mode)

    def _let_go(self, watched: Watched, *, is_timeout: bool) -> None:
        self.log.info("%s was asked to stop, which goes on without this task", watched.label)

    def _stop(self, context: Context, subject: Subject, job: Job | None, mode: StopMode) -> dict[str, Any]:
        if job is not None and self._is_at_rest(job):
            return self._found_at_rest(subject, job)
        began = self.clock()
        try:
            request = self._ask(subject, job, mode)
        except ArroyoApiError as err:
            if not _is_gone(err):
                raise
            return self._missing(err, subject)
        self.log.info("%s: asked to stop (%s)", subject.label, mode.value)
        if not self.wait:
            return self._result(subject, job, checkpoint=None, missing=False)
        deadline, limit = self._deadline(self.timeout)
        plan = WaitPlan(
            pipeline_id=subject.pipeline_id,
            targets=frozenset(TERMINAL_STATES),
            deadline=deadline,
            limit=limit,
            baseline=Baseline.of(job, asked_at=began) if job else None,
            outage_tolerance=self.api_outage_tolerance,
        )
        return self._wait(context, plan, subject, {"request": request.to_dict() if request else None})

    @staticmethod
    def _is_at_rest(job: Job) -> bool:
        """Whether there is nothing to ask for. A stopped one that was asked to run again is on its way up."""
        return job.state in (JobState.FINISHED, JobState.FAILED) or (
            job.state == JobState.STOPPED and not job.running_desired
        )

    def _ask(self, subject: Subject, job: Job | None, mode: StopMode) -> StopRequest | None:
        """Ask for the stop, and return what its proof will need; None where no checkpoint was asked for."""
        from airflow_provider_arroyo.arroyo import api
        from airflow_provider_arroyo.monitoring.proof import StopRequest

        before: tuple[Checkpoint, ...] = ()
        if mode is StopMode.CHECKPOINT and job is not None:
            before = self._arroyo.call(api.checkpoints(subject.pipeline_id, job.id))
        answer = self._arroyo.exchange(api.patch_pipeline(subject.pipeline_id, stop=mode))
        if mode is not StopMode.CHECKPOINT:
            return None
        date = answer.server_date
        return StopRequest.after(before, int(date.timestamp() * 1_000_000) if date else None)

    def _found_at_rest(self, subject: Subject, job: Job) -> dict[str, Any]:
        self.log.info("%s is %s already", subject.label, job.state)
        if job.state == JobState.FAILED:
            return self._ended_failed(Verdict(outcome=Outcome.REACHED, job=job), subject)
        from airflow_provider_arroyo.monitoring.proof import checkpoint_of_stopped

        if job.state == JobState.FINISHED:
            return self._result(subject, job, checkpoint=None, missing=False)
        checkpoint = checkpoint_of_stopped(self._checkpoints(subject, job), job)
        return self._stopped(subject, job, checkpoint)

    def _finish(self, verdict: Verdict, subject: Subject, carry: Mapping[str, Any]) -> dict[str, Any]:
        job = verdict.job
        if verdict.outcome in (Outcome.DELETED, Outcome.MISSING):
            return self._missing(explain(verdict, subject), subject)
        if verdict.outcome is not Outcome.REACHED or job is None:
            self._fail(verdict, subject)
        if job.state == JobState.FAILED:
            return self._ended_failed(verdict, subject)
        if job.state == JobState.FINISHED or carry.get("request") is None:
            return self._result(subject, job, checkpoint=None, missing=False)
        from airflow_provider_arroyo.monitoring.proof import StopRequest, checkpoint_of_stop

        request = StopRequest.from_dict(carry["request"])
        return self._stopped(subject, job, checkpoint_of_stop(self._checkpoints(subject, job), request))

    def _checkpoints(self, subject: Subject, job: Job) -> tuple[Checkpoint, ...]:
        from airflow_provider_arroyo.arroyo import api

        return self._arroyo.call(api.checkpoints(subject.pipeline_id, job.id))

    def _stopped(self, subject: Subject, job: Job, checkpoint: Checkpoint | None) -> dict[str, Any]:
        if checkpoint is None and self.mode == StopMode.CHECKPOINT:
            text = (
                f"{subject.label} is Stopped, but nothing proves that it left a final checkpoint: a resume may "
                "go back to an earlier one. Look at Arroyo's controller log."
            )
            if self.require_checkpoint:
                error = ArroyoError(text)
                self._raise_for(error)
            self.log.warning("%s", text)
        told = (
            {"epoch": checkpoint.epoch, "finish_time_micros": checkpoint.finish_time_micros}
            if checkpoint
            else None
        )
        return self._result(subject, job, checkpoint=told, missing=False)

    def _ended_failed(self, verdict: Verdict, subject: Subject) -> dict[str, Any]:
        failure = as_failure(verdict, Outcome.FAILED, (JobState.STOPPED.value,))
        if not self.accept_failed:
            self._fail(failure, subject)
        self.log.warning("%s", explain(failure, subject, self._job_errors(failure, subject)))
        return self._result(subject, verdict.job, checkpoint=None, missing=False)

    def _missing(self, error: ArroyoError, subject: Subject | None = None) -> dict[str, Any]:
        if self.if_missing == "fail":
            self._raise_for(error)
        self.log.warning("There is nothing to stop: %s", error)
        if subject is None:
            pipeline_id, name = rendered_id_and_name(self.pipeline_id, self.pipeline_name)
            subject = Subject(pipeline_id=pipeline_id or "", name=name)
        return self._result(subject, None, checkpoint=None, missing=True)

    def _raise_for(self, error: ArroyoError) -> NoReturn:
        from airflow_provider_arroyo.hooks.errors import task_error

        self._raise(task_error(error, self.arroyo_conn_id), error)


def _is_gone(error: ArroyoApiError) -> bool:
    """Whether a PATCH was refused because there is no such pipeline: 404 on 0.16, a 400 in words on 0.15."""
    return isinstance(error, ArroyoNotFoundError) or (
        error.status == 400 and "no jobs for the pipeline" in error.server_message.lower()
    )
