"""The sandbox against the recordings, as tests; ``python -m tests.conformance`` prints the table."""

from __future__ import annotations

import pytest

from tests.conformance import recordings, suite, timelines
from tests.conformance.compare import Matching, compare, compare_headers
from tests.conformance.replay import replay_stream
from tests.conformance.situations import Situation, replay
from tests.conformance.target import sandbox_target

VERSIONS = ("0.15", "0.16")
CALLS = [(version, item) for version in VERSIONS for item in suite.situations(version)]
TIMELINES = [(version, name) for version in VERSIONS for name in recordings.timelines(version)]


@pytest.mark.parametrize(
    "version, situation", CALLS, ids=[f"{version}-{item.files[-1]}" for version, item in CALLS]
)
def test_recorded_calls(version: str, situation: Situation) -> None:
    with sandbox_target(version, **suite.options(situation.needs)) as target:
        outcomes = replay(target, situation)
    assert len(outcomes) > 0
    assert {item.name: item.differences for item in outcomes if item.differences} == {}


@pytest.mark.parametrize("version, name", TIMELINES, ids=["-".join(item) for item in TIMELINES])
def test_recorded_timelines(version: str, name: str) -> None:
    # A seed shifts the controller's polls in time; the results must be the same.
    seed = 1 + TIMELINES.index((version, name)) % 2
    with sandbox_target(version, seed=seed, **suite.options(timelines.needs(name))) as target:
        assert timelines.provoke(target, name).differences == []


def test_recorded_output_of_a_preview() -> None:
    with sandbox_target("0.16") as target:
        assert replay_stream(target).differences == []


@pytest.mark.parametrize("version", VERSIONS)
def test_no_recording_is_forgotten(version: str) -> None:
    assert suite.all_files_have_a_situation(version) == set()


def test_the_rules_detect_differences() -> None:
    recorded = {"id": "pl_aaaaaaaaaa", "state": "Running", "created_at": 1_795_573_005_000_000, "tasks": None}
    good = {"id": "pl_bbbbbbbbbb", "state": "Running", "created_at": 1_795_999_005_000_000, "tasks": None}
    assert compare(recorded, good, Matching()) == []
    for key, wrong in (
        ("id", "job_bbbbbbbbbb"),
        ("state", "Stopped"),
        ("created_at", None),
        ("created_at", 0),
        ("tasks", 0),
    ):
        assert compare(recorded, good | {key: wrong}, Matching()) != [], key
    assert compare(recorded, dict(reversed(good.items())), Matching()) != []
    assert compare({"error": "a"}, {"error": "b"}, Matching()) != []
    assert compare([recorded, recorded], [good], Matching({"pl_aaaaaaaaaa": "pl_bbbbbbbbbb"})) != []
    assert compare_headers({"allow": "GET,HEAD"}, {}) != []


def test_an_id_must_be_used_consistently() -> None:
    matching = Matching()
    assert compare({"id": "pl_aaaaaaaaaa"}, {"id": "pl_bbbbbbbbbb"}, matching) == []
    assert compare({"id": "pl_aaaaaaaaaa"}, {"id": "pl_cccccccccc"}, matching) != []


def test_another_course_of_a_timeline_is_detected() -> None:
    # A server that allows more restarts fails later than was recorded.
    with sandbox_target("0.15", allowed_restarts=4) as target:
        assert timelines.provoke(target, "failing_source").differences != []
