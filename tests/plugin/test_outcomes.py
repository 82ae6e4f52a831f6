"""The outcome of an action as the page shows it: the audit log's wait decides it, and the page keeps that wait."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.exceptions import ArroyoConnectionError
from airflow_provider_arroyo.plugin.actions import Action
from airflow_provider_arroyo.plugin.outcomes import Followed, first_response, next_response
from airflow_provider_arroyo.plugin.watch import Watch

from .support import acted, facts, job

T0 = 1000.0
SERVER = "http://arroyo.example"


class Page:
    """A page that follows an action, each time by another API server."""

    def __init__(self, action: Action, before: Job | None, server: str = "", **more: Any) -> None:
        self.now = T0
        self.message = first_response(acted(action, before, at=T0, **more), server)

    def ask(self, seen: Job | None, *, seconds: float = 2.0, is_fetched: bool = True) -> None:
        """Ask again while the list shows that job, or no such pipeline."""
        self.now += seconds
        watch = Watch(lambda: pytest.fail("nothing is fetched"), lambda _: pytest.fail("as above"))
        if seen is not None:
            watch.snapshot.take_pipelines([facts(1)])
            watch.snapshot.take_jobs([seen], self.now)
        watch.seen_at = self.now if is_fetched else T0
        one = Followed.model_validate_json(json.dumps(self.message["follow"]))
        self.message = next_response(one, watch, self.now)

    @property
    def text(self) -> str | None:
        """The text shown at the end, with "ok: " before a success."""
        outcome = self.message["outcome"]
        assert (outcome is None) is (self.message["follow"] is not None)
        return outcome and f"{'ok: ' if outcome['ok'] else ''}{outcome['text']}"


AGAIN = "ok: It is running again."
FAILED = "It failed instead of running."
FINISHING = "It is Finishing. In this state, Arroyo ignores the request. Stop it immediately instead."
LOST = ArroyoConnectionError("cut short")


def asked(state: str, run: int = 1) -> Job:
    return job(1, state, run, running_desired=False)


@pytest.mark.parametrize(
    "action, before, seen, text",
    [
        # The old state still shows: nothing is known.
        ("stop", job(1), [asked("Running")], None),
        ("stop", job(1), [asked("Stopping")], None),
        ("stop", job(1), [asked("CheckpointStopping"), asked("Stopped")], "ok: It is now Stopped."),
        ("stop", job(1), [job(1, "Finished")], "ok: It is now Finished."),
        ("stop", job(1), [job(1, "Failed")], "It failed instead."),
        ("stop", job(1), [None], "It has been deleted."),
        ("stop", job(1), [job(1)] * 4, "It was asked to run again before it stopped."),
        ("stop", job(1, "Finishing"), [asked("Finishing")] * 2, None),
        ("stop", job(1, "Finishing"), [asked("Finishing")] * 4, FINISHING),
        ("stop", job(1), [asked("Running"), *[asked("Finishing")] * 4], FINISHING),
        ("stop", job(1, "Finishing"), [asked("Finishing"), job(1, "Finished")], "ok: It is now Finished."),
        ("restart", job(1), [job(1)], None),
        ("restart", job(1), [job(1, "Scheduling", 2)], None),
        ("restart", job(1), [job(1, run=2)], AGAIN),
        ("restart", job(1), [job(1, "Failing"), job(1, "Failed")], None),
        ("restart", job(1, "Failed"), [job(1, "Failed")], None),
        ("restart", job(1, "Failed"), [job(1, "Failed", 2)], FAILED),
        (
            "restart",
            job(1),
            [job(1, "Finishing")] * 4,
            "It is Finishing. In this state, Arroyo ignores the request.",
        ),
        # A restart without state replaces the job.
        ("restart", job(1), [Job("job_2", "Running", 1, pipeline_id="pl_1")], AGAIN),
        ("resume", asked("Stopped"), [job(1, "Stopped")], None),
        ("resume", asked("Stopped"), [job(1, run=2)], AGAIN),
        ("resume", asked("Stopped"), [job(1, "Finished", 2)], "ok: It has finished."),
        ("resume", asked("Running"), [asked("Running")], None),
        ("resume", asked("Running"), [asked("Running"), job(1)], "ok: Its stop was withdrawn."),
        (
            "resume",
            asked("CheckpointStopping"),
            [job(1, "Stopped"), job(1, run=2)],
            "ok: Its stop was withdrawn.",
        ),
        ("rescale", job(1), [job(1, "Rescaling"), job(1, run=2)], AGAIN),
        ("rescale", job(1, "Finished"), [], "ok: The new parallelism takes effect when it is started again."),
        ("delete", job(1, "Stopped"), [], "ok: Deleted."),
        ("stop", None, [], "ok: Requested. It has no job yet."),
    ],
)
def test_the_text_of_each_outcome(
    action: Action, before: Job | None, seen: list[Job | None], text: str | None
) -> None:
    page = Page(action, before, parallelism=4)
    for one in seen:
        page.ask(one)
    assert page.text == text


def test_a_rescale_to_the_current_parallelism_is_done_at_once() -> None:
    what = acted("rescale", job(1), parallelism=4)
    object.__setattr__(what, "facts", facts(1, parallelism=4))
    assert first_response(what, "")["outcome"] == {"ok": True, "text": "It already has this parallelism."}


@pytest.mark.parametrize("mode, text", [("graceful", FINISHING), ("immediate", None), ("force", FINISHING)])
def test_a_finishing_pipeline_obeys_an_immediate_stop(mode: str, text: str | None) -> None:
    page = Page("stop", job(1, "Finishing"), mode=mode)
    for _ in range(4):
        page.ask(asked("Finishing"))
    assert page.text == text


@pytest.mark.parametrize(
    "action, before", [("stop", job(1)), ("restart", job(1)), ("delete", job(1, "Stopped")), ("stop", None)]
)
def test_an_action_whose_response_was_lost_is_followed_if_possible_and_never_called_done(
    action: Action, before: Job | None
) -> None:
    message = first_response(acted(action, before, LOST, at=T0), SERVER)
    assert message["lost"] == "cut short"
    if action == "delete" or before is None:
        assert message["outcome"] == {"ok": False, "text": "Whether it was done is unknown."}
    else:
        assert message["follow"] is not None
    assert first_response(acted(action, before, at=T0), SERVER)["lost"] is None


def test_a_page_stops_following_after_two_minutes() -> None:
    page = Page("restart", job(1))
    page.ask(job(1), seconds=119)
    assert page.text is None
    page.ask(job(1), seconds=2)
    assert page.text == "No effect seen after 120 s. Check Arroyo's console."


@pytest.mark.parametrize(
    "jobs, was_known, text",
    [
        # It is one of too many for that server, or could not be read.
        ([job(1)], False, None),
        # 0.15 does not tell whose job it is.
        ([Job("job_9", "Running", 1)], False, None),
        ([Job("job_9", "Running", 1)], True, "It has been deleted."),
        ([job(2)], False, "It has been deleted."),
    ],
)
def test_a_pipeline_that_this_api_server_never_listed_is_not_called_deleted(
    jobs: list[Job], was_known: bool, text: str | None
) -> None:
    message = first_response(acted("stop", job(1), at=T0), "")
    watch = Watch(lambda: pytest.fail("nothing is fetched"), lambda _: pytest.fail("as above"))
    if was_known:
        watch.snapshot.take_pipelines([facts(1)])
        watch.snapshot.take_jobs([job(1)], T0)
    watch.snapshot.take_jobs(jobs, T0)
    watch.seen_at = T0 + 2
    outcome = next_response(Followed(**message["follow"]), watch, T0 + 2)["outcome"]
    assert (outcome and outcome["text"]) == text


def test_an_incomplete_list_of_jobs_proves_no_deletion() -> None:
    watch = Watch(lambda: pytest.fail("nothing is fetched"), lambda _: pytest.fail("as above"))
    watch.snapshot.take_jobs([job(2)], T0, is_complete=False)
    assert not watch.snapshot.is_gone("pl_1")


def test_data_from_before_the_action_proves_nothing() -> None:
    page = Page("stop", job(1))
    for _ in range(10):
        page.ask(job(1), is_fetched=False)
    page.ask(None, is_fetched=False)
    assert page.text is None
    page.ask(asked("Stopped"))
    assert page.text == "ok: It is now Stopped."


def test_another_arroyo_does_not_prove_a_deletion() -> None:
    page = Page("stop", job(1), server=SERVER)
    page.ask(None)
    assert page.text is None


def test_the_page_gets_no_reason_that_may_repeat_a_secret() -> None:
    page = Page("restart", job(1, failure=FailureReason("password 'hunter2'", "user")))
    page.ask(job(1, "Recovering", failure=FailureReason("password 'hunter2'", "user")))
    assert page.text is None
    assert "Recovering" in json.dumps(page.message)
    assert "hunter2" not in json.dumps(page.message)
