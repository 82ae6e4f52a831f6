"""The public API is the committed one, so that reviewers see a breaking change."""

from __future__ import annotations

import difflib

from airflow_provider_arroyo.operators.arroyo import ArroyoStopPipelineOperator

from . import public_api


def test_the_public_api_is_the_committed_one() -> None:
    committed, now = public_api.COMMITTED.read_text(), public_api.text()
    changes = "".join(difflib.unified_diff(committed.splitlines(True), now.splitlines(True), n=1))
    assert not changes, (
        "The public API has changed. If that is intended, run `python -m tests.typing.public_api` and mention it "
        f"in CHANGELOG.md:\n{changes}"
    )


def test_a_renamed_argument_is_detected() -> None:
    def renamed(*, pipelineid: str, mode: int = 3, **kwargs: object) -> None: ...

    before = public_api.text()
    original = ArroyoStopPipelineOperator.__init__
    ArroyoStopPipelineOperator.__init__ = renamed  # type: ignore[assignment, method-assign]  # that is the point
    try:
        after = public_api.text()
    finally:
        ArroyoStopPipelineOperator.__init__ = original  # type: ignore[method-assign]  # as before
    gone = set(before.splitlines()) - set(after.splitlines())
    assert "    accept_failed: bool = False" in gone
