"""What a running job leaves behind: checkpoints and metrics.

Both follow from when the run began, so they are worked out when somebody asks, not as time passes: ten
thousand jobs that nobody looks at cost nothing.
"""

from __future__ import annotations

import random
from typing import Any

from .records import Checkpoint, Job

KEPT_CHECKPOINTS = 2000
"""The oldest ones of a job are forgotten beyond this, so that a sandbox may run for days."""

KEPT_SAMPLES = 150
_SAMPLE_MICROS = 2_090_000
_METRICS = ("bytes_recv", "bytes_sent", "messages_recv", "messages_sent", "backpressure")


def begin(job: Job, now: int, rng: random.Random) -> None:
    """Note that a run begins."""
    job.run_started = now
    job.run_ended = None
    job.run_parallelism = job.seen_parallelism
    # On real servers the first checkpoint came 0.2 to 1 s later than the interval says.
    first = now + job.seen_interval_micros + rng.randint(1, 5) * 200_000
    job.next_checkpoint = first


def plan_checkpoint(job: Job, now: int) -> None:
    """Plan the next checkpoint anew, after the interval was changed."""
    last = job.checkpoints[-1].finish if job.checkpoints else (job.run_started or now)
    job.next_checkpoint = max(last, job.run_started or now) + job.seen_interval_micros
    job.next_checkpoint = max(job.next_checkpoint, now)


def catch_up(job: Job, now: int, rng: random.Random) -> None:
    """Add the checkpoints that the run made, or began, until now."""
    until = now if job.run_ended is None else min(now, job.run_ended)
    while job.next_checkpoint is not None and job.next_checkpoint <= until:
        start = job.next_checkpoint
        operators_done = start + rng.randint(60_000, 109_000)
        # The controller writes the metadata at its next look at the job, 200 ms later.
        finish = operators_done + rng.randint(201_000, 203_500)
        job.checkpoints.append(
            Checkpoint(_next_epoch(job), False, start, operators_done, finish, job.run_parallelism)
        )
        job.next_checkpoint = finish + job.seen_interval_micros + rng.randint(7_000, 11_000)
    if len(job.checkpoints) > KEPT_CHECKPOINTS:
        del job.checkpoints[: -KEPT_CHECKPOINTS // 2]


def stopping_checkpoint(job: Job, now: int, until: int, rng: random.Random) -> None:
    """Add the checkpoint with which a run ends; one that was under way is finished before."""
    catch_up(job, now, rng)
    if job.checkpoints and job.checkpoints[-1].finish > now:
        last = job.checkpoints[-1]
        last.finish = now
        last.operators_done = max(last.start, min(last.operators_done, now - 700))
    finish = max(now + 2, until - rng.randint(1_200, 4_000))
    start = now + min(3_000, (finish - now) // 3)
    operators_done = max(start, finish - rng.randint(600, 1_100))
    job.checkpoints.append(
        Checkpoint(_next_epoch(job), True, start, operators_done, finish, job.run_parallelism)
    )
    job.next_checkpoint = None
    if job.run_started is not None:
        job.progress_micros += now - job.run_started
        job.run_ended = now


def end(job: Job, now: int, rng: random.Random) -> None:
    """Note that a run ended, however it did."""
    if job.run_started is None or job.run_ended is not None:
        return
    catch_up(job, now, rng)
    job.next_checkpoint = None
    job.run_ended = now
    drop_unfinished(job, now)
    # The sources begin again where the last checkpoint left them.
    if job.checkpoints and job.checkpoints[-1].start >= job.run_started:
        job.progress_micros += job.checkpoints[-1].start - job.run_started


def drop_unfinished(job: Job, now: int) -> None:
    """Forget a checkpoint that was under way when the job was torn out of it."""
    if job.checkpoints and job.checkpoints[-1].finish > now:
        job.checkpoints.pop()


def shift(job: Job, now: int, by: int) -> None:
    """Move what is still to come, and the run that goes on, after the server's clock was set."""
    if job.run_started is None or job.run_ended is not None:
        return
    job.run_started += by
    if job.next_checkpoint is not None:
        job.next_checkpoint += by
    if job.checkpoints and (last := job.checkpoints[-1]).finish > now:
        last.finish += by
        if last.operators_done > now:
            last.operators_done += by


def _next_epoch(job: Job) -> int:
    return job.checkpoints[-1].epoch + 1 if job.checkpoints else 1


def metric_groups(job: Job, now: int, rng: random.Random) -> list[dict[str, Any]]:
    """Return the metrics of every node, as the API lists them; the order is not stable.

    Rates follow those of the sources. The first look of a run, about two seconds in, knows nothing but
    backpressure. After the run the last values stay.
    """
    if job.run_started is None:
        return []
    until = now if job.run_ended is None else job.run_ended
    samples = max(0, (until - job.run_started) // _SAMPLE_MICROS)
    groups = []
    for node in job.pipeline.graph.get("nodes", ()):
        values = _rates(job, node)
        listed = []
        for name in rng.sample(_METRICS, len(_METRICS)):
            first = 1 if name == "backpressure" else 2
            numbers = range(max(first, samples - KEPT_SAMPLES + 1), samples + 1)
            subtasks = [
                {"index": index, "metrics": _series(job, node["node_id"], numbers, values[name])}
                for index in range(job.run_parallelism)
                if numbers
            ]
            listed.append({"name": name, "subtasks": subtasks})
        groups.append({"node_id": node["node_id"], "metric_groups": listed})
    rng.shuffle(groups)
    return groups


def _series(job: Job, node_id: int, numbers: range, value: float) -> list[dict[str, float]]:
    # The same sample has the same value whenever it is asked for.
    begun = job.run_started or 0
    series = []
    for number in numbers:
        wobble = ((number * 7919 + begun) % 1000 - 500) / 500_000
        series.append(
            {
                "time": begun + number * _SAMPLE_MICROS + 13 * node_id,
                "value": value * (1 + wobble) if value else 0.0,
            }
        )
    return series


def _rates(job: Job, node: dict[str, Any]) -> dict[str, float]:
    rate = sum(source.rate or 10.0 for source in job.pipeline.sources) or 10.0
    rate /= max(1, job.run_parallelism)
    edges = job.pipeline.graph.get("edges", ())
    is_source = not any(edge["dest_id"] == node["node_id"] for edge in edges)
    is_sink = not any(edge["src_id"] == node["node_id"] for edge in edges)
    received = 0.0 if is_source else _received(job, node["node_id"], rate)
    sent = 0.0 if is_sink else (rate if is_source else _sent(node, received))
    batches = min(20.0, sent or received)
    return {
        "messages_recv": received,
        "messages_sent": sent,
        "bytes_recv": received * 21 + min(20.0, received) * 290,
        "bytes_sent": sent * 24 + batches * 400 if sent else 0.0,
        "backpressure": 0.0 if is_sink else min(1.0, batches * 0.0001220554 / 10 * max(1.0, rate / 20)),
    }


def _received(job: Job, node_id: int, rate: float) -> float:
    graph = job.pipeline.graph
    nodes = {node["node_id"]: node for node in graph.get("nodes", ())}
    for edge in graph.get("edges", ()):
        if edge["dest_id"] == node_id and "window" in nodes[edge["src_id"]]["description"]:
            return 0.5
    return rate


def _sent(node: dict[str, Any], received: float) -> float:
    # A window sends a result once per slide, however much it is fed.
    return 0.5 if "window" in node["description"] else received
