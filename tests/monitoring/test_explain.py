"""The errors that a person reads when a wait did not end well, word for word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_arroyo.arroyo.details import JobError
from airflow_provider_arroyo.exceptions import ArroyoAuthError, ArroyoPipelineError
from airflow_provider_arroyo.monitoring.explain import Subject, explain
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from tests.monitoring.support import REFUSED, T0, api_error, job

SUBJECT = Subject(
    pipeline_id="pl_1", name="orders_per_minute", console_url="http://arroyo:5115/pipelines/pl_1"
)
SINCE = "2026-11-25 02:00:00 UTC"


def verdict(outcome: Outcome, **more: object) -> Verdict:
    return replace(Verdict(outcome=outcome, wanted=("Running",)), **more)  # type: ignore[arg-type]  # by name


def lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def test_a_failure_names_the_pipeline_the_reason_and_the_operators_words() -> None:
    failed = verdict(
        Outcome.FAILED,
        job=job("Failing", 1, reason="error in connector: failed to open file", domain="user"),
        waited_seconds=0.8,
    )
    error = explain(
        failed,
        SUBJECT,
        [
            JobError.from_api(
                {
                    "id": "7",
                    "created_at": 1,
                    "operator_id": "source_1",
                    "task_index": 0,
                    "level": "error",
                    "message": "failed to open file",
                    "details": "No such file or directory\n(os error 2)",
                }
            )
        ],
    )
    assert isinstance(error, ArroyoPipelineError)
    assert lines(str(error)) == lines("""
        Pipeline 'orders_per_minute' (pl_1) is Failing in run 1, Running was wanted.
        Arroyo's reason (domain: user): error in connector: failed to open file
        The job's last errors, newest first:
        source_1: failed to open file: No such file or directory (os error 2)
        Mend the cause, then clear this task.
        Arroyo console: http://arroyo:5115/pipelines/pl_1
    """)
    assert (error.outcome, error.pipeline_id, error.name, error.job_id) == (
        "failed",
        "pl_1",
        "orders_per_minute",
        "job_1",
    )
    assert (error.state, error.run_id) == ("Failing", 1)
    assert (error.reason, error.domain) == ("error in connector: failed to open file", "user")


def test_a_failure_after_many_runs_says_how_many_and_where_the_cause_is() -> None:
    failed = verdict(
        Outcome.FAILED,
        job=job("Failed", 21, reason="Job has restarted too many times"),
        waited_seconds=8.2,
        restarts=20,
    )
    assert lines(str(explain(failed, SUBJECT))) == lines("""
        Pipeline 'orders_per_minute' (pl_1) is Failed in run 21, Running was wanted.
        Arroyo's reason: Job has restarted too many times
        It restarted 20 times in 8.2 s.
        Arroyo's API gives no further cause; its workers' log has it.
        Mend the cause, then clear this task.
        Arroyo console: http://arroyo:5115/pipelines/pl_1
    """)


def test_a_failure_of_arroyos_own_points_at_its_log_too() -> None:
    failed = verdict(
        Outcome.FAILED,
        job=job("Failed", 2, reason="Exhausted retries: error while running", domain="internal"),
        waited_seconds=4.5,
        restarts=1,
    )
    text = str(explain(failed, Subject(pipeline_id="pl_1")))
    assert lines(text) == lines("""
        Pipeline pl_1 is Failed in run 2, Running was wanted.
        Arroyo's reason (domain: internal): Exhausted retries: error while running
        It restarted once in 4.5 s.
        Arroyo's API gives no further cause; its workers' log has it.
        Mend the cause, then clear this task.
    """)


def test_a_failure_that_a_change_did_not_mend_is_told_as_such() -> None:
    failed = verdict(Outcome.FAILED, job=job("Failed", 1, reason="no", domain="user"), unchanged=True)
    assert str(explain(failed, SUBJECT)).startswith(
        "Pipeline 'orders_per_minute' (pl_1) is still Failed in run 1, Running was wanted."
    )


GOLDEN = {
    "finished": (
        verdict(Outcome.FINISHED, job=job("Finished", 1)),
        """
        Pipeline 'orders_per_minute' (pl_1) is Finished, Running was wanted; a finished pipeline never runs again.
        Its sources have an end. Wait for Finished instead, or submit it anew.
        Arroyo console: http://arroyo:5115/pipelines/pl_1
        """,
    ),
    "stopped by somebody": (
        verdict(Outcome.STOPPED, job=job("Stopped", 1, desired=False)),
        """
        Pipeline 'orders_per_minute' (pl_1) was stopped by somebody else while Running was waited for.
        Clear this task to start it again.
        Arroyo console: http://arroyo:5115/pipelines/pl_1
        """,
    ),
    "stopped as before": (
        verdict(Outcome.STOPPED, job=job("Stopped", 1, desired=False), unchanged=True),
        """
        Pipeline 'orders_per_minute' (pl_1) is still Stopped, Running was wanted: what was asked of it had no effect.
        Resume it, since Arroyo does not restart what is stopped.
        Arroyo console: http://arroyo:5115/pipelines/pl_1
        """,
    ),
    "deleted": (
        verdict(Outcome.DELETED, job=job("Running", 3, desired=False)),
        """
        Pipeline 'orders_per_minute' (pl_1) was deleted by somebody else; last seen Running (run 3, asked to stop).
        Clear the task that submits it to make it anew.
        """,
    ),
    "missing": (
        verdict(Outcome.MISSING),
        """
        There is no pipeline 'pl_1' on this Arroyo.
        Check the id, and that arroyo_conn_id leads to the server that has it.
        """,
    ),
    "unreachable": (
        verdict(
            Outcome.UNREACHABLE,
            job=job("Running", 1),
            unreachable_seconds=600.0,
            unreachable_since=T0,
            error=REFUSED,
        ),
        f"""
        Arroyo has been unreachable for 10 min since {SINCE}; this says nothing about \
Pipeline 'orders_per_minute' (pl_1): last seen Running (run 1).
        The last look failed: Connection refused
        Check the server and the connection, then clear this task; it takes up the same pipeline.
        Arroyo console: http://arroyo:5115/pipelines/pl_1
        """,
    ),
    "unreachable from the beginning": (
        verdict(Outcome.UNREACHABLE, unreachable_seconds=600.0, unreachable_since=T0, error=REFUSED),
        f"""
        Arroyo has been unreachable for 10 min since {SINCE}; this says nothing about \
Pipeline 'orders_per_minute' (pl_1): no state was seen.
        The last look failed: Connection refused
        Check the server and the connection, then clear this task; it takes up the same pipeline.
        Arroyo console: http://arroyo:5115/pipelines/pl_1
        """,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_every_bad_end_says_what_happened_and_what_to_do(name: str) -> None:
    given, text = GOLDEN[name]
    error = explain(given, SUBJECT)
    assert lines(str(error)) == lines(text)
    assert isinstance(error, ArroyoPipelineError)
    assert error.outcome == given.outcome.value


TIMEOUTS = {
    "nothing happens at all": (
        verdict(Outcome.TIMED_OUT, job=job("Created", 0)),
        "it has been Created for 10 min, run 0.",
        "Look at Arroyo's controller and workers, or allow more time (timeout).",
    ),
    "the change never took effect": (
        verdict(Outcome.TIMED_OUT, job=job("Running", 1), unchanged=True),
        "it has been Running for 10 min, run 1.",
        "Nothing happened since it was asked to change. Look at Arroyo's controller: only it carries out "
        "what the API takes down.",
    ),
    "it never held": (
        verdict(Outcome.TIMED_OUT, job=job("Running", 9)),
        "it has been Running for 10 min, run 9.",
        "It did not hold that state long enough in one run to count (stable_for).",
    ),
    "somebody asked it to stop": (
        verdict(Outcome.TIMED_OUT, job=job("Running", 1, desired=False)),
        "it has been Running for 10 min, run 1.",
        "It was asked to stop, so that it is on its way down. Find out who stopped it.",
    ),
    "a stop that somebody took back": (
        verdict(Outcome.TIMED_OUT, job=job("Running", 1), wanted=("Finished", "Stopped")),
        "it has been Running for 10 min, run 1.",
        "It is asked to run: nobody asked it to stop, or somebody took that back.",
    ),
    "a stop that takes long": (
        verdict(Outcome.TIMED_OUT, job=job("Running", 1, desired=False), wanted=("Finished", "Stopped")),
        "it has been Running for 10 min, run 1.",
        "It was asked to stop; look at Arroyo's controller, or allow more time (timeout).",
    ),
    "a stream without an end": (
        verdict(Outcome.TIMED_OUT, job=job("Running", 1), wanted=("Finished",)),
        "it has been Running for 10 min, run 1.",
        "It runs on. Allow more time (timeout), or check that its sources have an end.",
    ),
    "nobody resumes it": (
        verdict(Outcome.TIMED_OUT, job=job("Stopped", 1, desired=False)),
        "it has been Stopped for 10 min, run 1.",
        "Nobody has asked it to run again. Resume it.",
    ),
    "nothing resumes it": (
        verdict(Outcome.TIMED_OUT, job=job("Stopped", 1)),
        "it has been Stopped for 10 min, run 1.",
        "It was asked to run again; look at Arroyo's controller.",
    ),
    "Airflow's own limit": (
        verdict(Outcome.TIMED_OUT, job=job("Scheduling", 1), limit="execution_timeout"),
        "it has been Scheduling for 10 min, run 1.",
        "Look at Arroyo's controller and workers, or allow more time (execution_timeout).",
    ),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_timeout_says_how_it_stood_and_what_to_look_at(name: str) -> None:
    given, stood, advice = TIMEOUTS[name]
    text = str(explain(replace(given, waited_seconds=605.0, stood_seconds=600.0), SUBJECT))
    wanted = " or ".join(given.wanted)
    assert lines(text) == lines(f"""
        Pipeline 'orders_per_minute' (pl_1) did not become {wanted} within 10 min 5 s ({given.limit}): {stood}
        {advice}
        Arroyo console: http://arroyo:5115/pipelines/pl_1
    """)


def test_a_timeout_without_a_job_points_at_the_controller() -> None:
    text = str(explain(verdict(Outcome.TIMED_OUT, waited_seconds=600.0), Subject(pipeline_id="pl_1")))
    assert lines(text) == lines("""
        Pipeline pl_1 has no job after 10 min (timeout).
        Look at Arroyo's controller.
    """)


def test_a_timeout_in_an_outage_speaks_of_the_outage() -> None:
    timed_out = verdict(
        Outcome.TIMED_OUT,
        job=job("Scheduling", 1),
        waited_seconds=120.0,
        unreachable_seconds=90.0,
        unreachable_since=T0,
        error=api_error(503),
    )
    assert lines(str(explain(timed_out, SUBJECT))) == lines(f"""
        Pipeline 'orders_per_minute' (pl_1) did not become Running within 2 min (timeout): \
Arroyo has been unreachable since {SINCE}; last seen Scheduling (run 1).
        The last look failed: answered 503
        Check the server and the connection.
        Arroyo console: http://arroyo:5115/pipelines/pl_1
    """)


def test_a_look_that_no_waiting_mends_is_raised_as_it_is() -> None:
    error = api_error(401, ArroyoAuthError)
    assert explain(verdict(Outcome.ERROR, error=error), SUBJECT) is error


def test_an_error_that_got_lost_on_its_way_is_still_told() -> None:
    error = explain(verdict(Outcome.ERROR, job=job("Running", 2)), SUBJECT)
    assert "did not become" not in str(error)
    assert str(error).startswith("The wait for Pipeline 'orders_per_minute' (pl_1) to become Running failed")


def test_no_more_errors_are_listed_than_help() -> None:
    errors = [
        JobError.from_api(
            {
                "id": str(number),
                "created_at": 1,
                "operator_id": None,
                "task_index": None,
                "level": "error",
                "message": f"message {number}",
                "details": "",
            }
        )
        for number in range(9)
    ]
    text = str(explain(verdict(Outcome.FAILED, job=job("Failed")), SUBJECT, errors))
    assert "no operator: message 0\n" in text
    assert "message 4" in text
    assert "message 5" not in text
    assert "no further cause" not in text


def test_names_from_outside_are_kept_on_one_line_and_short() -> None:
    subject = Subject(pipeline_id="pl_1", name="a\nb" + "c" * 500)
    first, *_ = str(explain(verdict(Outcome.FINISHED, job=job("Finished")), subject)).splitlines()
    assert "'a bccc" in first
    assert len(first) < 300


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (Outcome.WAITING, Outcome.REACHED)])
def test_every_outcome_has_words_even_without_a_job(outcome: Outcome) -> None:
    error = explain(Verdict(outcome=outcome), Subject(pipeline_id="pl_1"))
    assert "pl_1" in str(error)
    assert len(str(error).splitlines()) >= 2
