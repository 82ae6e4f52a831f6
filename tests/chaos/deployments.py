"""Deployments that are killed, lose responses, race each other and run out of time: what runs at the end.

The sandbox's clock is manual, so that a thousand deployments take minutes. A scenario deploys several versions in
turn, each until it succeeds or fails for good, as a user and Airflow's retries would.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import airflow_provider_arroyo
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.pipelines.ownership import Owner, without_label
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.pipelines.deploy_bench import BROKEN, SECOND, SPEC, DeployBench, open_deploy_bench
from tests.support import KilledError, Turns, kill_at

from .figures import Figures
from .in_process import quiet_logs

DEPLOY_FIGURES = (
    "two running",
    "none running",
    "old lost",
    "foreign touched",
    "deleted in excess",
    "left behind",
    "wrong version",
    "not finished",
)

VERSIONS_OF_SQL = (SPEC, SECOND, replace(SPEC, parallelism=2), replace(SECOND, parallelism=3), BROKEN)
MAX_TRIES = 12
TRIES_WITH_FAULTS = 4


class Scenario:
    """One deployment, through several versions.

    :param bench: its server.
    :param seed: decides what happens.
    :param figures: collects the violations.
    """

    def __init__(self, bench: DeployBench, seed: str, figures: Figures) -> None:
        self._bench = bench
        self._draw = random.Random(seed)
        self._figures = figures
        self._seed = seed
        self._run = 0
        self._good: PipelineSpec | None = None
        """The last version that was deployed successfully."""
        self._good_ids: set[str] = set()
        """The pipelines that a rollback may return to: that version's, and what a race started after it."""
        self._has_kept = False
        self.strategy = self._draw.choice(("stop_first", "stop_first", "start_first"))
        self.keep_old = self._draw.random() < 0.25

    def run(self) -> None:
        """Deploy a few versions next to pipelines of other owners."""
        foreign = self._bench.create_externally(replace(SPEC, name="foreign"), pipeline_id="by-hand")
        namesake = self._bench.create_externally(SPEC, pipeline_id="namesake")
        self._bench.change(namesake.id, "Running", "stop", "Stopped")
        others = {foreign.id, namesake.id}
        seen = len(self._bench.sandbox.requests)
        self._deploy(SPEC)
        for _ in range(self._draw.randint(1, 3)):
            self._deploy(self._draw.choice(VERSIONS_OF_SQL))
        for request in list(self._bench.sandbox.requests)[seen:]:
            if request.method != "GET" and any(f"/pipelines/{one}" in request.path for one in others):
                self._violation("foreign touched", f"{request.method} {request.path}")
        if {one.id for one in self._bench.pipelines()} & others != others:
            self._violation("foreign touched", "another owner's pipeline is gone")

    # -- one version, until it succeeds or fails for good --------------------------------------------------------

    def _deploy(self, spec: PipelineSpec) -> None:
        self._run += 1
        self._figures.wanted += 1
        for number in range(1, MAX_TRIES + 1):
            self._figures.tries += 1
            has_faults = number <= TRIES_WITH_FAULTS
            what = self._draw.choice(
                ("nothing", "killed", "killed", "lost", "two at once", "deadline", "outage")
            )
            what = what if has_faults else "nothing"
            self._figures.events[what] += 1
            self._bench.log.info("--- %s: %s, try %d", self._seed, what, number)
            try:
                end = self._try(spec, what, number)
            except KilledError:
                self._bench.sandbox.advance(self._draw.choice((0, 0.3, 5)))
                continue
            finally:
                self._bench.sandbox.faults.clear()
            if isinstance(end, ArroyoError) and not end.is_fatal:
                self._bench.log.info("failed, retried: %s", end)
                continue
            if what == "two at once":
                # The other deploy may change something after this one has succeeded; a retry sees that.
                continue
            self._figures.tasks += 1
            self._figures.created += 1
            self._check(spec, end)
            if end is None:
                self._good = spec
            return
        self._violation("not finished", f"{MAX_TRIES} tries of {spec.query!r}")

    def _try(self, spec: PipelineSpec, what: str, number: int) -> ArroyoError | None:
        run_id = f"{'retry' if number > 1 else 'run'}-{self._run}"
        bench, draw = self._bench, self._draw
        if what == "two at once":
            return self._race(spec, run_id)
        options: dict[str, Any] = {}
        if what == "lost":
            for method in ("PUT", "POST", "PATCH", "DELETE", "GET"):
                if draw.random() < 0.6:
                    after = draw.random() < 0.6
                    bench.sandbox.faults.reset(method=method, after_effect=after, times=draw.randint(1, 2))
        elif what == "deadline":
            options["timeout"] = timedelta(seconds=draw.uniform(0.05, 4))
        elif what == "outage":
            bench.sandbox.faults.status(503, times=draw.randint(1, 40), path="*")
        kill = kill_at(1 + int(draw.expovariate(0.06)))
        is_after = draw.random() < 0.5
        hooks = {"after" if is_after else "before": kill} if what == "killed" else {}
        return self._once(spec, run_id, hooks, options)

    def _once(
        self, spec: PipelineSpec, run_id: str, hooks: dict[str, Any], options: dict[str, Any]
    ) -> ArroyoError | None:
        try:
            done = self._bench.deploy(
                spec,
                task=Owner(dag_id="shop", task_id="deploy", run_id=run_id),
                client=self._bench.new_client(**hooks),
                is_deferred=self._draw.random() < 0.5,
                strategy=self.strategy,
                keep_old=self.keep_old,
                **options,
            )
        except ArroyoError as err:
            return err
        if done.pipeline is not None:
            self._good_ids.add(done.pipeline.pipeline_id)
        return None

    def _race(self, spec: PipelineSpec, run_id: str) -> ArroyoError | None:
        """Run two deploys at once, of the same version or of two."""
        other = spec if self._draw.random() < 0.4 else self._draw.choice((SPEC, SECOND))
        # On a busy machine, the other deploy may not send for a while; then this one goes first.
        order = [self._draw.randint(0, 1) for _ in range(self._draw.choice((10, 40, 150)))]
        turns = Turns(order, limit_seconds=5)

        def run(who: int) -> ArroyoError | None:
            hooks = {"before": lambda _: turns.wait_for(who), "after": lambda _: turns.pass_on(who)}
            try:
                return self._once((spec, other)[who], f"{run_id}-{who}", hooks, {})
            finally:
                turns.end(who)

        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(run, (0, 1)))
        running = self._running()
        if len(running) > 1:
            self._violation("two running", f"{[one.id for one in running]} after a race: {ends}")
        if not running and None in ends:
            self._violation("none running", f"after a race: {ends}")
        return ends[0]

    # -- what is left afterwards
    # --------------------------------------------------------------------------------------

    def _check(self, spec: PipelineSpec, end: ArroyoError | None) -> None:
        bench, running = self._bench, self._running()
        own = self._own()
        ids = {one.id for one in running}
        queries = {without_label(one.query) for one in running}
        if len(running) > 1:
            self._violation("two running", str(ids))
        if not running and (end is None or self._good is not None):
            states = [(one.id, bench.job(one.id).state) for one in own]
            self._violation("none running", f"{states} after {end}")
        if end is None:
            if running and queries != {spec.query}:
                self._violation("wrong version", f"{queries} instead of {spec.query!r}")
            self._good_ids = ids
        elif self._good is not None and not ids & self._good_ids:
            self._violation("old lost", f"{ids} instead of one of {self._good_ids} after {end}")
        if (end is None or end.is_fatal) and len(own) > 1 + self.keep_old:
            self._violation("left behind", f"{[one.id for one in own]} are there after {end}")
        if self._has_kept and len(own) < 2:
            self._violation("deleted in excess", f"{[one.id for one in own]}: the kept one is gone")
        self._has_kept = self.keep_old and len(own) == 2

    def _own(self) -> list[Pipeline]:
        return [one for one in self._bench.pipelines() if one.name == "orders" and _is_labelled(one)]

    def _running(self) -> list[Pipeline]:
        """Return the deployment's running pipelines, after each has had time to reach its state."""
        self._bench.sandbox.advance(15)
        return [one for one in self._own() if self._bench.job(one.id).state in ("Running", "Finishing")]

    def _violation(self, figure: str, text: str) -> None:
        self._bench.log.error("*** %s: %s", figure, text)
        self._figures.violations[figure].append(f"{self._seed}: {text}")


def _is_labelled(pipeline: Pipeline) -> bool:
    return bool(pipeline.tags) or pipeline.query.startswith("-- airflow: ")


def run_deployments(
    version: str,
    *,
    deployments: int,
    seed: str,
    only: str | None = None,
    report: Callable[[str], object] | None = None,
) -> Figures:
    """Run scenarios until that many deployments have ended.

    :param version: the version of the server.
    :param deployments: how many.
    :param seed: decides what happens.
    :param only: the seed of the one scenario to run.
    :param report: gets the logs of scenarios that violated a rule.
    """
    figures = Figures(title=f"deploy {version}", violations={name: [] for name in DEPLOY_FIGURES})
    began = time.monotonic()
    for name in _names(seed, only):
        before = sum(map(len, figures.violations.values()))
        with (
            quiet_logs(airflow_provider_arroyo.__name__),
            open_deploy_bench(version, log_size=100_000) as bench,
        ):
            with suppress(KilledError):
                Scenario(bench, name, figures).run()
            if report is not None and sum(map(len, figures.violations.values())) > before:
                report(
                    "\n".join([f"== {name}", *(f"{level[:4]} {text}" for level, text in bench.lines.lines)])
                )
        if only or figures.tasks >= deployments:
            break
    figures.seconds = time.monotonic() - began
    return figures


def _names(seed: str, only: str | None) -> Iterator[str]:
    if only is not None:
        yield only
        return
    number = 0
    while True:
        yield f"{seed}-{number}"
        number += 1
