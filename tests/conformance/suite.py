"""Runs the suite against a sandbox of each version, or against one server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.conformance import recordings, timelines
from tests.conformance.replay import Outcome, replay_stream
from tests.conformance.situations import SITUATIONS, Situation, replay
from tests.conformance.target import Target, sandbox_target

KEY = "sekrit-key"


@dataclass
class Result:
    """The result for one recording file.

    :param part: ``calls`` or ``timelines``.
    """

    version: str
    part: str
    name: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def differing(self) -> list[Outcome]:
        """The calls or timelines that differ."""
        return [outcome for outcome in self.outcomes if outcome.differences]

    @property
    def skipped(self) -> list[Outcome]:
        """Those that were left out."""
        return [outcome for outcome in self.outcomes if outcome.skipped]


def options(needs: str) -> dict[str, Any]:
    """Return what a sandbox must be started with for recordings with these needs."""
    if needs == "worker":
        return {"job_controller": "worker"}
    if needs == "key":
        return {"api_key": KEY}
    return {} if needs == "default restarts" else {"allowed_restarts": 2}


def situations(version: str) -> list[Situation]:
    """Return the situations that were recorded of a version."""
    there = set(recordings.call_files(version))
    return [item for item in SITUATIONS if there & set(item.files)]


def all_files_have_a_situation(version: str) -> set[str]:
    """Return the recorded files that no situation replays; empty when all is well."""
    return set(recordings.call_files(version)) - {file for item in SITUATIONS for file in item.files}


def on_sandbox(version: str, seed: int = 1) -> Iterator[Result]:
    """Compare a sandbox with every recording of a version."""
    for situation in situations(version):
        with sandbox_target(version, seed=seed, **options(situation.needs)) as target:
            yield Result(version, "calls", "+".join(situation.files), replay(target, situation))
    if version == "0.16":
        with sandbox_target(version, seed=seed) as target:
            yield Result(version, "calls", "preview_output_sse", [replay_stream(target)])
    for name in recordings.timelines(version):
        with sandbox_target(version, seed=seed, **options(timelines.needs(name))) as target:
            yield Result(version, "timelines", name, [timelines.provoke(target, name)])


def on_server(target: Target) -> Iterator[Result]:
    """Compare a server that the suite did not start, without what needs faults or another configuration."""
    version = target.version
    for situation in situations(version):
        name = "+".join(situation.files)
        if reason := _left_out(target, situation.needs):
            count = sum(len(recordings.calls(version, file)) for file in situation.files)
            yield Result(version, "calls", name, [Outcome(name, skipped=reason)] * count)
            continue
        yield Result(version, "calls", name, replay(target, situation))
        target.clean_up()
    if version == "0.16":
        yield Result(version, "calls", "preview_output_sse", [replay_stream(target)])
    for name in recordings.timelines(version):
        if reason := _left_out(target, timelines.needs(name)):
            yield Result(version, "timelines", name, [Outcome(name, skipped=reason)])
            continue
        yield Result(version, "timelines", name, [timelines.provoke(target, name)])
        target.clean_up()


def _left_out(target: Target, needs: str) -> str | None:
    if needs == "sandbox":
        return "needs a process of the server to be killed"
    if needs == "key" and target.api_key is None:
        return "without ARROYO_API_KEY, no key is known"
    if needs == "worker" and os.environ.get("ARROYO_JOB_CONTROLLER") != "worker":
        return "needs job-controller worker; set ARROYO_JOB_CONTROLLER=worker where it has it"
    if needs == "controller" and os.environ.get("ARROYO_JOB_CONTROLLER") == "worker":
        return "needs job-controller controller"
    restarts = os.environ.get("ARROYO_ALLOWED_RESTARTS")
    if target.version == "0.15":
        if needs == "restarts" and restarts != "2":
            return "needs allowed-restarts 2; set ARROYO_ALLOWED_RESTARTS=2 where it has that"
        if needs == "default restarts" and restarts not in (None, "20"):
            return "needs allowed-restarts 20"
    return None
