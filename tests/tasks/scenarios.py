"""Ways in which a wait can go. Each must end alike in every mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_arroyo.hooks.errors import ArroyoTaskError

from .conftest import Arrange
from .harness import Ended, Make

KEYS = ["pipeline_id", "pipeline_name", "job_id", "state", "run_id", "console_url", "failure_reason"]


@dataclass
class Scenario:
    """One way in which a wait can go.

    :param arrange: brings it about, and returns what makes the task.
    :param state: the state in the result if it succeeds; or the states that it may be.
    :param error: the class of the error if it fails.
    :param says: what the error says, in this order.
    :param more: what else the result contains.
    :param modes: the modes in which it is tried; none for those of its table.
    """

    arrange: Callable[[Arrange], Make]
    state: str | tuple[str, ...] | None = None
    error: type[BaseException] | None = None
    says: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = ()


def fails(
    arrange: Callable[[Arrange], Make],
    *says: str,
    error: type[BaseException] = ArroyoTaskError,
    modes: tuple[str, ...] = (),
) -> Scenario:
    """Return a scenario in which the task fails."""
    return Scenario(arrange, error=error, says=says, modes=modes)


def cases(scenarios: Mapping[str, Scenario], modes: tuple[str, ...]) -> list[Any]:
    """Return the scenarios of a table, each in each of its modes."""
    return [
        pytest.param(scenario, mode, id=f"{name}-{mode}")
        for name, scenario in scenarios.items()
        for mode in scenario.modes or modes
    ]


def check(ended: Ended, scenario: Scenario) -> None:
    """Check how a task ended."""
    if scenario.error is not None:
        assert type(ended.error) is scenario.error, ended.error
        rest = str(ended.error).lower()
        for piece in scenario.says:
            _, found, rest = rest.partition(piece.lower())
            assert found, f"{piece!r} is not in order in: {ended.error}"
        return
    assert ended.error is None, ended.error
    result = ended.result
    assert list(result)[: len(KEYS)] == KEYS
    assert result["state"] in (scenario.state if isinstance(scenario.state, tuple) else (scenario.state,))
    if result["state"] is not None:
        assert result["pipeline_name"] == "orders"
        assert result["console_url"].endswith(f"/pipelines/{result['pipeline_id']}")
        assert ended.xcoms["_link_ArroyoPipelineLink"] == result["console_url"]
    # Stored by the trigger itself, if the task ended there.
    assert ended.xcoms.get("return_value", result) == result
    assert scenario.more.items() <= result.items()
