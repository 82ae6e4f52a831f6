"""A short chaos with every change: about a hundred tasks, one seed."""

from __future__ import annotations

import pytest

from .figures import table
from .in_process import VERSIONS, batch


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_lost_doubled_or_stopped_by_accident(version: str) -> None:
    told: list[str] = []
    figures = batch(version, stories=20, seed="quick", workers=10, limit_seconds=100, tell=told.append)
    assert figures.is_good, "\n\n".join([table([figures]), *told])
    assert figures.tasks >= 40
    # Else nothing was put to the test.
    assert figures.befell["killed in the worker"] > 0
    assert figures.tries > figures.tasks
