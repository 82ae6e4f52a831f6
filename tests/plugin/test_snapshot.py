"""Which changes a page gets, how states and restarts are counted, and that memory is limited."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.plugin import snapshot as snapshots
from airflow_provider_arroyo.plugin.snapshot import Snapshot

from .support import facts, job


def filled(*jobs: Job) -> Snapshot:
    snapshot = Snapshot(began=100.0)
    snapshot.take_pipelines([facts(number) for number in (1, 2, 3)])
    snapshot.take_jobs(jobs or [job(1), job(2), job(3)], 100.0)
    return snapshot


def test_a_new_page_gets_all_rows_and_then_only_what_changed() -> None:
    snapshot = filled()
    first = snapshot.changes_since("", 0)
    assert first["complete"]
    assert {row["id"] for row in first["rows"]} == {"pl_1", "pl_2", "pl_3"}
    assert snapshot.changes_since(first["epoch"], first["version"])["rows"] == []

    snapshot.take_jobs([job(1), job(2, "Failed", failure=FailureReason("broken", "user")), job(3)], 105.0)
    second = snapshot.changes_since(first["epoch"], first["version"])
    assert not second["complete"]
    (row,) = second["rows"]
    assert (row["id"], row["state"], row["since"]) == ("pl_2", "Failed", 105.0)
    assert row["failure"] == {"text": "broken", "domain": "user"}


def test_a_deleted_pipeline_is_reported_once() -> None:
    snapshot = filled()
    known = snapshot.changes_since("", 0)
    snapshot.take_jobs([job(1), job(3)], 101.0)
    after = snapshot.changes_since(known["epoch"], known["version"])
    assert after["gone"] == ["pl_2"]
    assert snapshot.changes_since(after["epoch"], after["version"])["gone"] == []


def test_a_page_with_the_version_of_another_process_gets_everything() -> None:
    snapshot = filled()
    assert snapshot.changes_since("another", snapshot.version)["complete"]


def test_a_page_that_missed_too_many_deletions_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MAX_GONE", 1)
    snapshot = filled()
    known = snapshot.changes_since("", 0)
    snapshot.take_jobs([job(3)], 101.0)
    after = snapshot.changes_since(known["epoch"], known["version"])
    assert after["complete"]
    assert [row["id"] for row in after["rows"]] == ["pl_3"]


def test_a_new_run_is_a_restart_and_resets_the_time_in_a_state() -> None:
    snapshot = filled()
    snapshot.take_jobs([job(1, run=2), job(2), job(3)], 130.0)
    row = snapshot.rows["pl_1"]
    assert (row.restarts, row.since) == (1, 130.0)
    assert [change[1:] for change in row.changes] == [("Running", 1), ("Running", 2)]


def test_the_first_run_of_a_pipeline_is_no_restart() -> None:
    snapshot = filled(job(1, "Created", run=0), job(2, "Created", run=0), job(3))
    snapshot.take_jobs([job(1, "Scheduling"), job(2, "Stopped", run=0), job(3)], 101.0)
    snapshot.take_jobs([job(1), job(2, "Scheduling"), job(3)], 102.0)
    assert [row.restarts for row in snapshot.rows.values()] == [0, 0, 0]
    # A restart without state replaces the job.
    other = replace(job(1, "Created", run=0), id="job_other")
    snapshot.take_jobs([other, job(2, run=2), job(3)], 103.0)
    snapshot.take_jobs([replace(other, state="Scheduling", run_id=1), job(2, run=2), job(3)], 104.0)
    assert [row.restarts for row in snapshot.rows.values()] == [1, 1, 0]


@pytest.mark.parametrize(
    "stale",
    [
        job(1, "Scheduling", created_at_micros=50),
        Job("job_0", "Failed", 9, pipeline_id="pl_1", created_at_micros=40),
    ],
    ids=["an earlier run", "an earlier job"],
)
def test_a_response_that_is_older_than_the_last_one_counts_only_if_it_lasts(stale: Job) -> None:
    snapshot = filled(job(1, run=2, created_at_micros=50), job(2), job(3))
    row, version = snapshot.rows["pl_1"], snapshot.version
    for at in (101.0, 103.0, 161.5):
        snapshot.take_jobs([stale, job(2), job(3)], at)
        snapshot.take_jobs([job(1, run=2, created_at_micros=50), job(2), job(3)], at + 1)
    assert (row.restarts, len(row.changes), snapshot.version) == (0, 1, version)
    for at in (200.0, 259.0):
        snapshot.take_jobs([stale, job(2), job(3)], at)
        assert row.job is not None
        assert row.job.run_id == 2
    # The server's database was restored.
    snapshot.take_jobs([stale, job(2), job(3)], 260.0)
    assert row.job == stale


@pytest.mark.parametrize(
    "first, since",
    [
        (job(1, start_time_micros=50_000_000), 50.0),
        # A restart does not renew the start time, so the start of this run is unknown.
        (job(1, run=4, start_time_micros=50_000_000), None),
        (job(1, "Failed", finish_time_micros=70_000_000), 70.0),
        (job(1, "Created", run=0, created_at_micros=80_000_000), 80.0),
        (job(1, "Recovering"), None),
    ],
)
def test_the_start_of_a_state_is_shown_if_the_first_poll_has_it(first: Job, since: float | None) -> None:
    assert filled(first, job(2), job(3)).rows["pl_1"].since == since


def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MAX_PIPELINES", 10)
    monkeypatch.setattr(snapshots, "_MAX_DETAILS", 3)
    snapshot = Snapshot(began=0.0)
    snapshot.take_pipelines([facts(number) for number in range(50)])
    snapshot.take_jobs([job(number, failure=FailureReason("y" * 10_000)) for number in range(50)], 1.0)
    for number in range(10):
        snapshot.take_details(snapshot.rows[f"pl_{number}"], {"number": number})
    failure = FailureReason("y" * 10_000)
    for run in range(2, snapshots.MAX_CHANGES + 10):
        snapshot.take_jobs([job(number, run=run, failure=failure) for number in range(10)], float(run))
    rows = list(snapshot.rows.values())
    assert len(rows) == snapshot.changes_since("", 0)["limit"] == 10
    assert filled().changes_since("", 0)["limit"] is None
    assert {len(str(row.failure)) for row in rows} == {len(str(rows[0].failure))}
    assert len(str(rows[0].failure)) < 2100
    assert sum(row.details is not None for row in rows) == 3
    assert max(len(row.changes) for row in rows) == snapshots.MAX_CHANGES


def test_details_are_sent_if_they_changed_or_are_new_to_the_page() -> None:
    snapshot = filled()
    snapshot.take_details(snapshot.rows["pl_1"], {"rate": 1})
    epoch, version = snapshot.epoch, snapshot.version
    assert snapshot.changes_since(epoch, version, shown=["pl_1"])["details"] == {}
    assert snapshot.changes_since(epoch, version, shown=["pl_1"], new=["pl_1"])["details"] == {
        "pl_1": {"rate": 1}
    }
    snapshot.take_details(snapshot.rows["pl_1"], {"rate": 2})
    assert snapshot.changes_since(epoch, version, shown=["pl_1"])["details"] == {"pl_1": {"rate": 2}}
    assert snapshot.changes_since(epoch, version)["details"] == {}


def test_late_facts_do_not_bring_a_deleted_pipeline_back() -> None:
    snapshot = filled()
    row = snapshot.rows["pl_1"]
    snapshot.take_facts(row, facts(1, parallelism=7))
    assert row.to_json()["parallelism"] == 7
    snapshot.drop("pl_1")
    snapshot.take_facts(row, facts(1, parallelism=8))
    snapshot.take_details(row, {"rate": 1})
    assert "pl_1" not in snapshot.rows
