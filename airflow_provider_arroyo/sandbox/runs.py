"""The checkpoints and metrics of a run.

Both follow from when the run began, so they are computed when they are requested, not as time passes: ten
thousand idle jobs cost nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from .clock import micros
from .fault_types import Fault
from .records import NEVER, Checkpoint, Job

KEPT_CHECKPOINTS = 500
"""Older ones of a job are dropped, so that a sandbox can run for days."""
KEPT_SAMPLES = 150
_SHOWN_SUBTASKS = 256
_SAMPLE_MICROS = 2_090_000
_SMOOTHING = 0.1
"""The weight of the last measurement in a smoothed rate."""
_SMOOTHED_SAMPLES = 200
_CHECKPOINT_MICROS = 295_000
"""Roughly how much longer than the interval it takes from one checkpoint to the next."""
_METRICS = ("bytes_recv", "bytes_sent", "messages_recv", "messages_sent", "backpressure")


def begin(job: Job, now: int, rng: random.Random) -> None:
    """Begin a run."""
    job.run_started = now
    job.run_ended = job.measured_until = None
    job.run_parallelism = min(job.seen.parallelism, _SHOWN_SUBTASKS)
    job.checkpointed_micros = 0
    # On real servers the first checkpoint came 0.2 to 1 s later than the interval says.
    job.next_checkpoint = now + job.seen.interval_micros + rng.randint(1, 5) * 200_000


def change_interval(job: Job, now: int, rng: random.Random) -> None:
    """Plan the next checkpoint with the requested interval."""
    catch_up(job, now, rng)
    job.seen.interval_micros = job.wanted.interval_micros
    finished = job.checkpoints[-1].finish if job.checkpoints else 0
    job.next_checkpoint = max(job.run_started or now, finished, now - job.seen.interval_micros)
    job.next_checkpoint += job.seen.interval_micros


def catch_up(job: Job, now: int, rng: random.Random) -> None:
    """Add the checkpoints that the run has made, or begun, by now."""
    until = now if job.run_ended is None else min(now, job.run_ended)
    if job.next_checkpoint is not None and not job.kafka_away:
        job.next_checkpoint = _skip(job, job.next_checkpoint, until)
    while job.next_checkpoint is not None and job.next_checkpoint <= until:
        start = job.next_checkpoint
        if job.kafka_away:
            _add(job, start, NEVER, NEVER)
            job.next_checkpoint = None
            break
        operators_done = start + rng.randint(60_000, 109_000)
        # The controller writes the metadata at its next tick, 200 ms later.
        finish = operators_done + rng.randint(201_000, 203_500)
        _add(job, start, operators_done, finish)
        job.next_checkpoint = finish + job.seen.interval_micros + rng.randint(7_000, 11_000)
    if len(job.checkpoints) > 2 * KEPT_CHECKPOINTS:
        del job.checkpoints[:-KEPT_CHECKPOINTS]


def _skip(job: Job, next_checkpoint: int, until: int) -> int:
    """Return when the next checkpoint begins, skipping those that would be dropped at once."""
    step = job.seen.interval_micros + _CHECKPOINT_MICROS
    count = (until - next_checkpoint) // step - KEPT_CHECKPOINTS
    if count <= 0:
        return next_checkpoint
    last, begun = job.checkpoints[-1].epoch if job.checkpoints else 0, next_checkpoint + (count - 1) * step
    skipped = Checkpoint(last + count, False, begun, begun + 80_000, begun + 282_000, job.run_parallelism)
    job.checkpoints[:] = [skipped]
    return begun + step


def _add(job: Job, start: int, operators_done: int, finish: int, *, stopping: bool = False) -> None:
    epoch = job.checkpoints[-1].epoch + 1 if job.checkpoints else 1
    job.checkpoints.append(Checkpoint(epoch, stopping, start, operators_done, finish, job.run_parallelism))
    if job.run_started is not None and finish != NEVER:
        job.checkpointed_micros = start - job.run_started


def under_way(job: Job, now: int) -> Checkpoint | None:
    """Return the unfinished checkpoint; None: there is none."""
    return job.checkpoints[-1] if job.checkpoints and job.checkpoints[-1].finish > now else None


def stopping_checkpoint(job: Job, now: int, until: int, rng: random.Random) -> None:
    """Add the checkpoint with which a run ends; an unfinished one finishes before."""
    catch_up(job, now, rng)
    if (last := under_way(job, now)) is not None:
        last.finish = now
        last.operators_done = max(last.start, min(last.operators_done, now - 700))
    finish = max(now + 2, until - rng.randint(1_200, 4_000))
    start = now + min(3_000, (finish - now) // 3)
    _add(job, start, max(start, finish - rng.randint(600, 1_100)), finish, stopping=True)
    _end(job, now)


def end(job: Job, now: int, rng: random.Random) -> None:
    """End a run without a checkpoint: the sources continue from the last checkpoint."""
    if job.run_started is not None and job.run_ended is None:
        end_checkpoints(job, now, rng)
        _end(job, now)


def _end(job: Job, now: int) -> None:
    job.next_checkpoint = None
    job.run_ended = now
    job.progress_micros += job.checkpointed_micros


def end_checkpoints(job: Job, now: int, rng: random.Random) -> None:
    """Make no more checkpoints in this run, drop one that is under way, and measure nothing more."""
    catch_up(job, now, rng)
    job.measured_until = now if job.measured_until is None else job.measured_until
    job.next_checkpoint = None
    if drop_unfinished(job, now) and job.run_started is not None:
        done = job.checkpoints[-1].start - job.run_started if job.checkpoints else 0
        job.checkpointed_micros = max(0, done)


def drop_unfinished(job: Job, now: int) -> bool:
    """Drop a checkpoint that was in progress when its run was interrupted; return whether there was one."""
    if under_way(job, now) is None:
        return False
    job.checkpoints.pop()
    return True


def metric_groups(
    job: Job, now: int, rng: random.Random, server_time: Callable[[int], int]
) -> list[dict[str, Any]]:
    """Return the metrics of every node, as the API lists them; the order is not stable.

    Rates follow those of the sources, or the job's traffic, smoothed as Arroyo smooths them. The first sample of a
    run, some two seconds in, has nothing but the backpressure. Once a source has ended, and after the run, the last
    values stay.

    :param server_time: converts a moment to the server's clock.
    """
    if job.run_started is None:
        return []
    until = min(one for one in (now, job.run_ended, job.measured_until) if one is not None)
    samples = max(0, (until - job.run_started) // _SAMPLE_MICROS)
    groups = []
    for node in job.pipeline.graph.get("nodes", ()):
        values = _rates(job, node)
        listed = []
        for name in rng.sample(_METRICS, len(_METRICS)):
            first = 1 if name == "backpressure" else 2
            numbers = range(max(first, samples - KEPT_SAMPLES + 1), samples + 1)
            subtasks = [
                {
                    "index": index,
                    "metrics": [
                        {"time": server_time(moment), "value": value}
                        for moment, value in _series(job, node["node_id"], numbers, values[name], name)
                    ],
                }
                for index in range(job.run_parallelism)
                if numbers
            ]
            listed.append({"name": name, "subtasks": subtasks})
        groups.append({"node_id": node["node_id"], "metric_groups": listed})
    rng.shuffle(groups)
    return groups


def _series(job: Job, node_id: int, numbers: range, shown: float, name: str) -> list[tuple[int, float]]:
    begun = job.run_started or 0
    is_smoothed = name != "backpressure"
    # Older values have no visible effect any more.
    start = max(2, numbers.start - _SMOOTHED_SAMPLES) if is_smoothed else numbers.start
    series, last = [], None
    for number in range(start, numbers.stop):
        moment = begun + number * _SAMPLE_MICROS + 13 * node_id
        value = _measured(job, number, moment, shown, name)
        if is_smoothed and last is not None:
            value = (1 - _SMOOTHING) * last + _SMOOTHING * value
        last = value
        if number >= numbers.start:
            series.append((moment, value))
    return series


def _measured(job: Job, number: int, moment: int, shown: float, name: str) -> float:
    # A sample has the same value each time it is asked for.
    value = shown * (1 + ((number * 7919 + (job.run_started or 0)) % 1000 - 500) / 500_000)
    since, traffic = next((item for item in reversed(job.traffic) if item[0] <= moment), (0, None))
    if not shown or traffic is None:
        return value
    if name != "backpressure":
        return value * _factor(job, traffic, moment - since)
    return (
        value if traffic.backpressure is None else traffic.backpressure * (1 - (number * 7919 % 100) / 1000)
    )


def _factor(job: Job, traffic: Fault, passed: int) -> float:
    # By which factor the traffic differs from that of the SQL.
    factor = 1.0 if traffic.rate is None else float(traffic.rate) / _rate(job)
    return factor * (1 + float(traffic.swing) * math.sin(math.tau * passed / micros(traffic.period)))


def _rate(job: Job) -> float:
    return sum(source.event_rate or 10.0 for source in job.pipeline.sources) or 10.0


def _rates(job: Job, node: dict[str, Any]) -> dict[str, float]:
    graph = job.pipeline.graph
    descriptions = {item["node_id"]: item["description"].lower() for item in graph.get("nodes", ())}
    inputs = [edge["src_id"] for edge in graph.get("edges", ()) if edge["dest_id"] == node["node_id"]]
    is_sink = not any(edge["src_id"] == node["node_id"] for edge in graph.get("edges", ()))
    rate = 0.0 if job.kafka_away else _rate(job) / max(1, job.run_parallelism)
    # A window sends a result once per slide, however much it receives.
    received = 0.5 if any("window" in descriptions[item] for item in inputs) else rate if inputs else 0.0
    sent = received if inputs else rate
    if is_sink:
        sent = 0.0
    elif inputs and "window" in descriptions[node["node_id"]]:
        sent = 0.5
    batches = min(20.0, sent or received)
    return {
        "messages_recv": received,
        "messages_sent": sent,
        "bytes_recv": received * 21 + min(20.0, received) * 290,
        "bytes_sent": sent * 24 + batches * 400 if sent else 0.0,
        "backpressure": 0.0 if is_sink else min(1.0, batches * 0.0001220554 / 10 * max(1.0, rate / 20)),
    }
