"""A short chaos run: about a hundred tasks of one seed."""

from __future__ import annotations

import pytest

from .figures import table
from .in_process import VERSIONS, batch


@pytest.mark.parametrize("version", VERSIONS)
def test_no_pipeline_is_lost_duplicated_or_stopped_unasked(version: str) -> None:
    logs: list[str] = []
    figures = batch(version, scenarios=20, seed="quick", workers=10, limit_seconds=100, report=logs.append)
    assert figures.has_passed, "\n\n".join([table([figures]), *logs])
    assert figures.tasks >= 40
    # Else nothing was tested.
    assert figures.events["killed in the worker"] > 0
    assert figures.tries > figures.tasks
