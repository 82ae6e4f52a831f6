"""The error messages of failed waits, word for word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_arroyo.client.details import JobError
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.exceptions import ArroyoAuthError, ArroyoPipelineError
from airflow_provider_arroyo.monitoring.condition import Detail
from airflow_provider_arroyo.monitoring.diagnosis import Evidence, diagnose
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.text import run_number
from tests.monitoring.support import FOREIGN, ORDERS, REFUSED, T0, UNNAMED, api_error, job, wait

SINCE = "2026-11-25 02:00:00 UTC"
NAME = "Pipeline 'orders_per_minute' (pl_1)"
IN_SENTENCE = "pipeline 'orders_per_minute' (pl_1)"
CONSOLE = "Arroyo console: http://arroyo:5115/pipelines/pl_1"
STOPPED, TIMED_OUT, UNREACHABLE = Outcome.STOPPED, Outcome.TIMED_OUT, Outcome.UNREACHABLE

FAILS = api_error(500, message="it failed (500)")


def ended(outcome: Outcome, *targets: str, **more: Any) -> WaitResult:
    return WaitResult(outcome=outcome, target_states=targets or ("Running",), **more)


def error_of_job(message: str, operator_id: str = "", details: str = "") -> JobError:
    return JobError("7", 1, message, details, operator_id=operator_id)


def test_a_failure_names_the_pipeline_the_reason_and_the_errors_of_operators() -> None:
    failing = job("Failing", 1, reason="error in connector: failed to open file", domain="user")
    details = "No such file or directory\n(os error 2)"
    error = explain(
        ended(Outcome.FAILED, job=failing, waited_seconds=0.8),
        ORDERS,
        [error_of_job("failed to open file", "source_1", details)],
    )
    assert isinstance(error, ArroyoPipelineError)
    assert str(error).splitlines() == [
        f"{NAME} is Failing in run 1; the goal was Running.",
        "Arroyo's reason (domain: user): error in connector: failed to open file",
        "The job's last errors, newest first:",
        "  source_1: failed to open file: No such file or directory (os error 2)",
        "Fix the cause.",
        CONSOLE,
    ]
    assert (error.outcome, error.pipeline_id, error.pipeline_name) == ("failed", "pl_1", "orders_per_minute")
    assert (error.job_id, error.state, error.run_id) == ("job_1", "Failing", 1)
    assert (error.reason, error.domain) == ("error in connector: failed to open file", "user")


def test_the_state_and_the_reason_of_a_failure_are_named_once() -> None:
    reason = "error in connector: No such file or directory"
    failed = job("Failed", 1, reason=reason, domain="user")
    # As a real 0.16 reports it: the reason is also the last of the job's errors, without an operator.
    errors = [error_of_job("task failed", details=reason), error_of_job("worker left", "sink_1")]
    found = diagnose(Evidence(pipeline=Pipeline("pl_1", "x", ""), now=1e9, jobs=(failed,), errors=(*errors,)))
    assert str(explain(ended(Outcome.FAILED, job=failed), ORDERS, errors, found)).splitlines() == [
        f"{NAME} is Failed in run 1; the goal was Running.",
        f"Arroyo's reason (domain: user): {reason}",
        "The job's last errors, newest first:",
        "  sink_1: worker left",
        f"Diagnosis (file_missing): {found.advice}",
        CONSOLE,
    ]
    assert "last errors" not in str(explain(ended(Outcome.FAILED, job=failed), ORDERS, errors[:1]))
    assert str(found).count(reason) == 1


@pytest.mark.parametrize(
    "domain, restarts, shown",
    [
        (None, 20, ["Arroyo's reason: no luck", "It restarted 20 times in 8.2 s."]),
        ("internal", 1, ["Arroyo's reason (domain: internal): no luck", "It restarted once in 8.2 s."]),
    ],
)
def test_a_failure_without_a_reason_counts_restarts_and_names_the_log(
    domain: str | None, restarts: int, shown: list[str]
) -> None:
    failed = job("Failed", 21, reason="no luck", domain=domain)
    error = explain(ended(Outcome.FAILED, job=failed, waited_seconds=8.2, restarts=restarts), UNNAMED)
    assert str(error).splitlines() == [
        "Pipeline pl_1 is Failed in run 21; the goal was Running.",
        *shown,
        "Arroyo's API gives no further cause; check the log of its workers.",
        "Fix the cause.",
    ]


def test_a_failure_that_outlasts_a_change_is_still_failed() -> None:
    failed = job("Failed", 1, reason="no", domain="user")
    text = str(explain(ended(Outcome.FAILED, job=failed, is_unchanged=True), ORDERS))
    assert text.startswith(f"{NAME} is still Failed in run 1; the goal was Running.\n")


ENDS: dict[str, tuple[WaitResult, list[str]]] = {
    "finished": (
        ended(Outcome.FINISHED, job=job("Finished", 1)),
        [
            f"{NAME} is Finished; the goal was Running, and a finished pipeline never runs again.",
            "Its sources are bounded. Wait for Finished instead, or submit it again.",
            CONSOLE,
        ],
    ),
    "stopped externally": (
        ended(STOPPED, job=job("Stopped", 1, desired=False)),
        [
            f"{NAME} was stopped externally; the goal was Running.",
            "A new try of this task starts it again.",
            CONSOLE,
        ],
    ),
    "stopped again before it ran": (
        ended(STOPPED, job=job("Stopped", 1, desired=False), is_unchanged=True),
        [
            f"{NAME} was resumed, and stopped again externally before it ran; the goal was Running.",
            "Find out who stopped it. A new try of this task resumes it.",
            CONSOLE,
        ],
    ),
    "a stop that was withdrawn": (
        ended(Outcome.WITHDRAWN, "Stopped", job=job("Running", 2)),
        [
            f"{NAME} was asked to run again while this task waited for its stop; last seen Running (run 2).",
            "Find out who withdrew the stop. A new try of this task requests it again.",
            CONSOLE,
        ],
    ),
    "a stop that no response showed": (
        ended(Outcome.WITHDRAWN, "Stopped", job=job("Running", 1), is_unchanged=True),
        [
            f"{NAME} was asked to run again while this task waited for its stop, or the responses are old: none of "
            "them showed the stop; last seen Running (run 1).",
            "Find out who withdrew the stop, and whether a gateway caches Arroyo's API. A new try of this task "
            "requests the stop again.",
            CONSOLE,
        ],
    ),
    "a change that Finishing ignores": (
        ended(Outcome.NO_CHECKPOINT, job=job("Finishing", 1), awaits_run=True),
        [
            f"{NAME} is Finishing; a new run was wanted: one of its sources has ended, and from then on Arroyo "
            "ignores restarts and new settings.",
            "Wait until it has finished, or stop it with mode='immediate'; then submit it again.",
            CONSOLE,
        ],
    ),
    "failed before its first run": (
        ended(Outcome.FAILED, job=job("Failed", 0, reason="no workers", domain="user")),
        [
            f"{NAME} is Failed before its first run; the goal was Running.",
            "Arroyo's reason (domain: user): no workers",
            "Fix the cause.",
            CONSOLE,
        ],
    ),
    "deleted before its first run": (
        ended(Outcome.DELETED, job=job("Created", 0)),
        [
            f"{NAME} was deleted externally; last seen Created (no run yet).",
            "A new try of the task that submits it creates it again.",
        ],
    ),
    "deleted": (
        ended(Outcome.DELETED, job=job("Running", 3, desired=False)),
        [
            f"{NAME} was deleted externally; last seen Running (run 3, stop requested).",
            "A new try of the task that submits it creates it again.",
        ],
    ),
    "deleted instead of stopped": (
        ended(Outcome.DELETED, "Stopped", job=job("Running", 3, desired=False)),
        [
            f"{NAME} was deleted externally; last seen Running (run 3, stop requested).",
            "Nothing of it is running any more, and its checkpoints are gone from Arroyo.",
        ],
    ),
    "missing": (
        ended(Outcome.MISSING),
        [
            "There is no pipeline 'pl_1' on this Arroyo.",
            "Check the id, and that arroyo_conn_id leads to the right server.",
        ],
    ),
    "unreachable": (
        ended(UNREACHABLE, job=job(), unreachable_seconds=600.0, unreachable_since=T0, error=REFUSED),
        [
            f"Arroyo has been unreachable for 10 min, since {SINCE}. This says nothing about {IN_SENTENCE}; "
            "last seen Running (run 1).",
            "The last poll failed: Connection refused",
            "Check the server and the connection. A new try continues with the same pipeline.",
            CONSOLE,
        ],
    ),
    "Arroyo itself fails": (
        ended(UNREACHABLE, job=job(), unreachable_seconds=600.0, unreachable_since=T0, error=FAILS),
        [
            f"Every poll failed for 10 min, although Arroyo responds. This says nothing about {IN_SENTENCE}; "
            "last seen Running (run 1).",
            "The last poll failed: it failed (500)",
            "Check the server's log. A new try continues with the same pipeline.",
            CONSOLE,
        ],
    ),
    "a foreign response after Arroyo's": (
        ended(UNREACHABLE, unreachable_seconds=600.0, unreachable_since=T0, error=FOREIGN),
        [
            f"Arroyo has been unreachable for 10 min, since {SINCE}. This says nothing about {IN_SENTENCE}; "
            "its state was never seen.",
            "The last poll failed: A gateway's page",
            "Check the server and the connection. A new try continues with the same pipeline.",
            CONSOLE,
        ],
    ),
    "nothing but foreign responses": (
        ended(UNREACHABLE, unreachable_seconds=60.0, has_responded=False, error=FOREIGN),
        [
            "This address does not look like Arroyo: for 1 min, no response came from Arroyo itself. This says "
            f"nothing about {IN_SENTENCE}.",
            "The last poll failed: A gateway's page",
            "Check the connection's host, port and base_path.",
            CONSOLE,
        ],
    ),
    "timed out without a job": (
        ended(TIMED_OUT, waited_seconds=600.0),
        [f"{NAME} still has no job after 10 min (timeout).", "Check Arroyo's controller.", CONSOLE],
    ),
    "timed out in an outage": (
        ended(
            TIMED_OUT,
            job=job("Scheduling", 1),
            waited_seconds=120.0,
            unreachable_seconds=90.0,
            unreachable_since=T0,
            is_outage=True,
            error=api_error(503),
        ),
        [
            f"{NAME} did not become Running within 2 min (timeout): Arroyo has been unreachable since {SINCE}; "
            "last seen Scheduling (run 1).",
            "The last poll failed: responded 503",
            "Check the server and the connection.",
            CONSOLE,
        ],
    ),
    "flapping": (
        ended(Outcome.FLAPPING, job=job("Running", 5), waited_seconds=65.0, restarts=4),
        [
            f"{NAME} keeps failing and starting again.",
            "It restarted more often than max_restarts allows; it is Running (run 5). The goal was Running.",
            "It restarted 4 times in 1 min 5 s.",
            "Fix the cause. The pipeline keeps restarting until it is stopped.",
            CONSOLE,
        ],
    ),
    "finishing before a checkpoint": (
        ended(Outcome.NO_CHECKPOINT, job=job("Finishing", 1), lacks_checkpoint=True),
        [
            f"{NAME} is Finishing, and no checkpoint finished in its run: one of its sources has ended, and from "
            "then on Arroyo takes no checkpoints.",
            "Set until_checkpoint=False to accept this.",
            CONSOLE,
        ],
    ),
    "a job that vanished": (
        ended(TIMED_OUT, job=job(), waited_seconds=600.0, jobless_seconds=590.0, restarts=1),
        [
            f"{NAME} did not become Running within 10 min (timeout): it has had no job for 9 min 50 s; last seen "
            "Running (run 1).",
            "It restarted once in 10 min.",
            "Check the pipeline in Arroyo's console; if it cannot be recovered, delete it and submit it again.",
            CONSOLE,
        ],
    ),
    "an error that was lost": (
        ended(Outcome.ERROR, job=job("Running", 2)),
        [
            f"The wait for {IN_SENTENCE} to become Running failed; last seen Running (run 2).",
            "A retry starts the wait again.",
            CONSOLE,
        ],
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_failure_says_what_happened_and_what_to_do(name: str) -> None:
    result, lines = ENDS[name]
    error = explain(result, ORDERS)
    assert str(error).splitlines() == lines
    assert isinstance(error, ArroyoPipelineError)
    assert error.outcome == result.outcome.value


KAFKA = [
    error_of_job("creating kafka consumer", "source_kafka_0", "BrokerTransportFailure"),
    error_of_job("creating kafka consumer", "source_kafka_0", "BrokerTransportFailure"),
    error_of_job("out of memory"),
]
CAUSES: dict[str, tuple[dict[str, Any], list[JobError], str]] = {
    "an unreachable broker": (
        {"job": job("Recovering", 3), "restarts": 2},
        KAFKA,
        "keeps failing and starting again: source_kafka_0: creating kafka consumer: BrokerTransportFailure.",
    ),
    "the same before its first restart": (
        {"job": job("Recovering", 1)},
        KAFKA,
        "keeps recovering from errors: source_kafka_0: creating kafka consumer: BrokerTransportFailure.",
    ),
    "a checkpoint that never finishes": (
        {"job": job(), "lacks_checkpoint": True, "open_epoch": 1},
        [],
        "does not finish its checkpoint 1.",
    ),
    "the same with an error": (
        {"job": job(), "lacks_checkpoint": True, "open_epoch": 7},
        KAFKA[2:],
        "does not finish its checkpoint 7: out of memory.",
    ),
    "checkpoints that cannot be read": (
        {"job": job(), "lacks_checkpoint": True, "details_error": api_error(500)},
        [],
        "may be healthy, but its checkpoints cannot be read: responded 500.",
    ),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_timeout_begins_with_the_cause(name: str) -> None:
    fields, errors, cause = CAUSES[name]
    result = ended(TIMED_OUT, waited_seconds=600.0, state_seconds=5.0, **fields)
    assert result.job is not None
    lines = str(explain(result, ORDERS, errors)).splitlines()
    assert lines[0] == f"{NAME} {cause}"
    assert lines[1] == (
        f"It did not become Running within 10 min (timeout): it has been {result.job.state} for 5.0 s "
        f"(run {result.job.run_id})."
    )


def test_problems_before_a_stop_are_not_the_cause() -> None:
    stopped = job("Stopped", 4, desired=False)
    result = ended(TIMED_OUT, "Finished", job=stopped, restarts=3, waited_seconds=9.0)
    lines = str(explain(result, ORDERS, KAFKA)).splitlines()
    assert lines[0].startswith(f"{NAME} did not become Finished within 9.0 s")
    assert "No resume was requested. Resume it." in lines


def test_a_single_restart_without_an_error_is_not_the_cause() -> None:
    result = ended(TIMED_OUT, "Finished", job=job("Running", 2), restarts=1, waited_seconds=9.0)
    lines = str(explain(result, ORDERS)).splitlines()
    assert lines[0].startswith(f"{NAME} did not become Finished within 9.0 s")
    assert lines[1] == "It restarted once in 9.0 s."


def test_a_repeated_error_is_listed_once() -> None:
    lines = str(explain(ended(TIMED_OUT, job=job("Running", 3), restarts=2), ORDERS, KAFKA)).splitlines()
    assert lines[3:6] == [
        "The job's last errors, newest first:",
        "  source_kafka_0: creating kafka consumer: BrokerTransportFailure (2 times)",
        "  out of memory",
    ]


STOP = ("Finished", "Stopped")
TIMEOUTS: dict[str, tuple[WaitResult, str]] = {
    "nothing happens at all": (
        ended(TIMED_OUT, job=job("Created", 0)),
        "Check Arroyo's controller and workers, or allow more time (timeout).",
    ),
    "a restart waits for a checkpoint that never begins": (
        ended(TIMED_OUT, job=job("Restarting")),
        "Arroyo waits for its final checkpoint. Check its sources and sinks, or allow more time (timeout). A restart "
        "with force=True ends that, and continues from its last finished checkpoint.",
    ),
    **{
        f"the final checkpoint of {state} does not finish": (
            ended(TIMED_OUT, *wanted, job=job(state)),
            "Arroyo waits for its final checkpoint. Check its sources and sinks, or allow more time (timeout). "
            f"{way}",
        )
        for state, wanted, way in (
            (
                "Rescaling",
                ("Running",),
                "Stop it with mode 'immediate', then resume it from its last finished checkpoint.",
            ),
            ("CheckpointStopping", STOP, "A stop with mode 'immediate' ends that."),
        )
    },
    **{
        f"{change} never took effect": (
            ended(TIMED_OUT, *wanted, job=job(), is_unchanged=True),
            "Nothing has happened since the change was requested. Check Arroyo's controller, which carries out "
            "what the API accepts.",
        )
        for change, wanted in (("the change", ()), ("a stop", STOP))
    },
    **{
        f"a stop was requested, it is {state}": (
            ended(TIMED_OUT, job=job(state, desired=False)),
            "A stop was requested, so it is about to stop. Find out who requested it.",
        )
        for state in ("Scheduling", "Stopping", "CheckpointStopping")
    },
    "it is still in the wanted state that it was in before": (
        ended(TIMED_OUT, *STOP, job=job("Stopped", desired=False), is_unchanged=True),
        "Nothing has happened since the change was requested. Check Arroyo's controller, which carries out what the "
        "API accepts.",
    ),
    "it was never stable": (
        ended(TIMED_OUT, job=job("Running", 9)),
        "It has not stayed in that state for stable_for in one run. Allow more time (timeout), or find out why it "
        "restarts.",
    ),
    "a stop was requested externally": (
        ended(TIMED_OUT, job=job(desired=False)),
        "A stop was requested, so it is about to stop. Find out who requested it.",
    ),
    "a stop request was withdrawn": (
        ended(TIMED_OUT, *STOP, job=job()),
        "No stop is requested: nobody requested one, or the request was withdrawn. Stop the pipeline, or allow "
        "more time (timeout).",
    ),
    "a stop takes long": (
        ended(TIMED_OUT, *STOP, job=job(desired=False)),
        "A stop was requested; check Arroyo's controller, or allow more time (timeout).",
    ),
    "a stop that is not obeyed": (
        ended(TIMED_OUT, *STOP, job=job("Finishing", desired=False)),
        "A stop was requested, and one of its sources has ended: from then on Arroyo obeys only a stop with mode "
        "'immediate'. Use that, or allow more time (timeout).",
    ),
    "no checkpoint yet": (
        ended(TIMED_OUT, job=job(), lacks_checkpoint=True),
        "until_checkpoint=True waits for a checkpoint that began in its run and has finished. Check its sources and "
        "sinks, or allow more time than its checkpoint interval (timeout).",
    ),
    "whether a stop was requested cannot be read": (
        ended(TIMED_OUT, job=replace(job(), running_desired=None)),
        "Arroyo's responses do not say whether a stop was requested. Check any gateway in between.",
    ),
    "a stream without an end": (
        ended(TIMED_OUT, "Finished", job=job()),
        "It is still running. Allow more time (timeout), or check that its sources are bounded.",
    ),
    "no resume was requested": (
        ended(TIMED_OUT, job=job("Stopped", desired=False)),
        "No resume was requested. Resume it.",
    ),
    "a resume has no effect": (
        ended(TIMED_OUT, job=job("Stopped")),
        "A resume was requested; check Arroyo's controller.",
    ),
    "a change that Finishing ignores": (
        ended(TIMED_OUT, job=job("Finishing"), awaits_run=True),
        "In that state, Arroyo ignores restarts and new settings. Wait until it has finished, or stop it with "
        "mode='immediate'; then submit it again.",
    ),
    "whether the stop of a guarded one was requested": (
        ended(TIMED_OUT, *STOP, job=replace(job(), running_desired=None)),
        "Arroyo's responses do not say whether a stop was requested. Check any gateway in between.",
    ),
    "Airflow's own limit": (
        ended(TIMED_OUT, job=job("Scheduling"), deadline_argument="execution_timeout"),
        "Check Arroyo's controller and workers, or allow more time (execution_timeout).",
    ),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_timeout_names_the_state_its_duration_and_what_to_check(name: str) -> None:
    result, advice = TIMEOUTS[name]
    assert result.job is not None
    wanted = " or ".join(result.target_states)
    error = explain(replace(result, waited_seconds=605.0, state_seconds=600.0), ORDERS)
    assert str(error).splitlines() == [
        f"{NAME} did not become {wanted} within 10 min 5 s ({result.deadline_argument}): "
        f"it has been {result.job.state} for 10 min ({run_number(result.job.run_id)}).",
        advice,
        CONSOLE,
    ]


@pytest.mark.parametrize("cut_seconds, is_outage", [(1.5, False), (2.5, True)])
def test_a_last_poll_that_the_deadline_cuts_short_hides_no_missing_pipeline(
    cut_seconds: float, is_outage: bool
) -> None:
    one = wait(pipeline=PipelineRef(pipeline_id="", name="orders"), may_be_missing=True)
    one.observe_missing(T0 + 590)
    one.observe_error(REFUSED, T0 + 599.99, sent_at=T0 + 600 - cut_seconds)
    first, *_ = str(explain(one.tick(T0 + 600), one.plan.pipeline)).splitlines()
    missing = "There is no pipeline named 'orders' after 10 min (timeout); the goal was Running."
    assert (first == missing) is not is_outage
    assert ("Arroyo has been unreachable" in first) is is_outage


def test_a_goal_may_be_several_checkpoints_and_the_final_one_takes_long() -> None:
    goal: dict[str, Any] = {"goal": "2 new checkpoints", "advice": "Check its sources"}
    failed = WaitResult(outcome=Outcome.FAILED, job=job("Failed", 2), **goal)
    assert str(explain(failed, UNNAMED)).startswith(
        "Pipeline pl_1 is Failed in run 2; the goal was 2 new checkpoints.\n"
    )
    stopping = WaitResult(outcome=TIMED_OUT, job=job("CheckpointStopping", desired=False), **goal)
    assert "Arroyo waits for its final checkpoint." in str(explain(stopping, UNNAMED))
    stopping = replace(stopping, detail=Detail.METRICS)
    assert "A stop was requested, so it is about to stop." in str(explain(stopping, UNNAMED))


def test_a_permanent_error_is_raised_unchanged() -> None:
    error = api_error(401, ArroyoAuthError)
    assert explain(ended(Outcome.ERROR, error=error), ORDERS) is error


def test_the_number_of_listed_job_errors_is_limited() -> None:
    errors = [error_of_job(f"message {number}") for number in range(9)]
    lines = str(explain(ended(Outcome.FAILED, job=job("Failed")), UNNAMED, errors)).splitlines()
    assert lines[1:-1] == [
        "The job's last errors, newest first:",
        *(f"  message {number}" for number in range(5)),
    ]


def test_names_are_shown_on_one_line_and_shortened() -> None:
    pipeline = PipelineRef(pipeline_id="pl_1", name="a\nb" + "c" * 500)
    first, *_ = str(explain(ended(Outcome.FINISHED, job=job("Finished")), pipeline)).splitlines()
    assert "'a bccc" in first
    assert len(first) < 300


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (Outcome.WAITING, Outcome.REACHED)])
def test_every_outcome_has_a_message_even_without_a_job(outcome: Outcome) -> None:
    error = explain(WaitResult(outcome=outcome), UNNAMED)
    assert "pl_1" in str(error)
    assert len(str(error).splitlines()) >= 2
