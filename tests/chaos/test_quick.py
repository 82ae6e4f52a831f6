"""Short chaos runs of one seed: about a hundred tasks, and some deployments."""

from __future__ import annotations

import pytest

from .changes import run_changes
from .deployments import run_deployments
from .figures import table
from .in_process import VERSIONS, batch
from .watching import run_watching


@pytest.mark.parametrize("version", VERSIONS)
def test_no_pipeline_is_lost_duplicated_or_stopped_without_a_request(version: str) -> None:
    logs: list[str] = []
    figures = batch(version, scenarios=20, seed="quick", workers=10, limit_seconds=300, report=logs.append)
    assert figures.has_passed, "\n\n".join([table([figures]), *logs])
    assert figures.tasks >= 40
    # Otherwise nothing was tested.
    assert figures.events["killed in the worker"] > 0
    assert figures.tries > figures.tasks


@pytest.mark.parametrize("version", VERSIONS)
def test_no_deployment_is_duplicated_or_lost(version: str) -> None:
    logs: list[str] = []
    figures = run_deployments(version, deployments=12, seed="quick", report=logs.append)
    assert figures.has_passed, "\n\n".join([table([figures]), *logs])
    # Otherwise nothing was tested.
    assert figures.events["killed"] > 0
    assert figures.tries > figures.tasks


@pytest.mark.parametrize("version", VERSIONS)
def test_no_change_is_lost(version: str) -> None:
    figures = run_changes(version, changes=15, seed="quick")
    assert figures.has_passed, table([figures])
    assert figures.events["killed"] > 0
    assert figures.events["lost"] > 0


@pytest.mark.parametrize("version", VERSIONS)
def test_no_event_is_lost_and_no_guard_misses_a_death(version: str) -> None:
    logs: list[str] = []
    figures = run_watching(version, pipelines=12, seed="quick", report=logs.append)
    assert figures.has_passed, "\n\n".join([table([figures]), *logs])
    # Otherwise nothing was tested.
    assert figures.events["watcher killed"] > 0
    assert figures.events["events stored"] > 0
    assert figures.events["pipeline flaps"] > 0
