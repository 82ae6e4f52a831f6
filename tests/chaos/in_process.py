"""The first part: stories by the hundred, in one process for each version of the server."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from airflow_provider_arroyo.arroyo import retry
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .figures import Figures
from .mortals import clients
from .stage import Triggerer, states_of_tasks
from .stories import Place, Story, judge_the_end
from .truth import Truth
from .weather import Weather

VERSIONS = ("0.15", "0.16")

SPEED = 3.0
"""How much faster than a real one the sandbox lives: the less of the time is spent waiting."""

ACCIDENTS: Sequence[Callable[[ArroyoSandbox], object] | None] = (
    None,
    None,
    lambda sandbox: sandbox.faults.api_away(seconds=2 * SPEED),
    lambda sandbox: sandbox.faults.controller_away(seconds=2 * SPEED),
    lambda sandbox: sandbox.faults.server_restart(seconds=1 * SPEED),
    lambda sandbox: sandbox.faults.kill_worker("*"),
)
"""What else happens once in a batch."""


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep out of the way what is logged of each fault: by clients, and by a server that hangs up on them."""
    loggers = {logging.getLogger("aiohttp.server"): logging.CRITICAL, retry.log: logging.ERROR}
    before = {logger: logger.level for logger in loggers}
    for logger, level in loggers.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


@contextmanager
def _place(version: str, seed: str, limit_seconds: float) -> Iterator[Place]:
    with ExitStack() as stack:
        stack.enter_context(clients())
        stack.enter_context(states_of_tasks())
        stack.enter_context(_quiet_logs())
        sandbox = stack.enter_context(
            ArroyoSandbox(
                arroyo_version=version,
                seed=random.Random(seed).randrange(2**32),
                speed=SPEED,
                log_size=5_000_000,
            )
        )
        conn_id = f"chaos_{sandbox.port}"
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        # An answer may hang or come late, and the client must not wait for it for long.
        os.environ[variable] = sandbox.airflow_connection_uri(connect_timeout=2, read_timeout=1)
        stack.callback(os.environ.pop, variable)
        triggerers = [stack.enter_context(Triggerer(f"triggerer-{number}")) for number in (1, 2)]
        until = time.monotonic() + limit_seconds
        yield Place(sandbox, Truth(sandbox), triggerers, conn_id, until)


def batch(
    version: str,
    *,
    stories: int,
    seed: str,
    workers: int = 24,
    limit_seconds: float = 240.0,
    only: str | None = None,
    tell: Callable[[str], object] | None = None,
) -> Figures:
    """Run some stories beside each other, on a server of their own, and return what they came to.

    :param version: the server's.
    :param stories: how many.
    :param seed: what happens is drawn from it.
    :param workers: how many are under way at a time.
    :param limit_seconds: when it is given up, which is a figure that must be zero.
    :param only: the name of the one story to run.
    :param tell: gets what the tasks of stories said that went wrong.
    """
    figures = Figures(title=version)
    began = time.monotonic()
    with _place(version, seed, limit_seconds) as place:
        weather = Weather(place.sandbox, f"{seed} weather")
        names = [f"{seed}-{number}" for number in range(stories)]
        told = [Story(place, name, f"{version} {name}") for name in names if only in (None, name)]
        accident = random.Random(seed).choice(ACCIDENTS)
        timer = threading.Timer(3.0, lambda: accident(place.sandbox) if accident else None)
        timer.start()
        with ThreadPoolExecutor(workers, thread_name_prefix="worker") as pool:
            outcomes = list(pool.map(Story.run, told))
        timer.join()
        weather.calm_down()
        place.sandbox.faults.controller_back()
        _let_settle(place, told)
        for story, outcome in zip(told, outcomes, strict=True):
            figures.tasks += outcome.tasks
            figures.tries += outcome.tries
            figures.befell.update(outcome.befell)
            for figure, line in outcome.wrong:
                figures.wrong[figure].append(line)
            judge_the_end(story, place.truth, figures)
        figures.wrong["stopped by accident"].extend(place.truth.stops_by_accident())
        figures.befell.update(weather.count)
        if tell is not None:
            lines = [line for found in figures.wrong.values() for line in found]
            for story in told:
                if any(line.startswith(f"{story.name}:") for line in lines):
                    tell("\n".join([f"== {story.name}", *story.journal.lines]))
    figures.seconds = time.monotonic() - began
    return figures


def _let_settle(place: Place, stories: Sequence[Story], *, limit_seconds: float = 10.0) -> None:
    """Return when every pipeline is where it should be at the end, or does not come there in time."""
    until = time.monotonic() + limit_seconds
    waited = threading.Event()

    def is_settled(story: Story) -> bool:
        there = place.truth.pipelines(story.name)
        return bool(there) and all(one.job is not None and one.job.state in story.at_rest for one in there)

    while not all(map(is_settled, stories)) and time.monotonic() < until:
        waited.wait(0.2)


def complain(text: str) -> None:
    """Write what the tasks of a story said that went wrong, apart from the table."""
    sys.stderr.write(f"{text}\n")


def run(
    version: str,
    *,
    tasks: int,
    seed: str,
    batch_size: int = 60,
    only: str | None = None,
    tell: Callable[[str], object] | None = None,
    limit_seconds: float = 1500.0,
) -> Figures:
    """Run batches until so many tasks have come to their end.

    :param version: the server's.
    :param tasks: submits, clears and stops.
    :param seed: what happens is drawn from it.
    :param batch_size: stories on one server.
    :param only: the name of the one story to run; its batch is the one that it names.
    :param tell: gets what the tasks of stories said that went wrong.
    :param limit_seconds: when no further batch is begun, which is a figure that must be zero.
    """
    total = Figures(title=version)
    began = time.monotonic()
    number = int(only.split(".")[1].split("-")[0]) if only else 0
    while total.tasks < tasks:
        if time.monotonic() - began > limit_seconds:
            total.wrong["not ended"].append(f"{total.tasks} of {tasks} tasks in {limit_seconds:.0f} s")
            break
        figures = batch(version, stories=batch_size, seed=f"{seed}.{number}", only=only, tell=tell)
        total.add(figures)
        number += 1
        if only:
            break
    total.seconds = time.monotonic() - began
    return total
