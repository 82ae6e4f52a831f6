from __future__ import annotations

import random

import pytest


@pytest.fixture(autouse=True)
def _same_backoff_in_every_run() -> None:
    """Make the random part of the backoff the same in every run."""
    random.seed(12)
