"""Sends every recorded request again, in the situation in which it was recorded."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.conformance import recordings
from tests.conformance.compare import Matching, compare, compare_headers
from tests.conformance.recordings import Exchange
from tests.conformance.target import Target

IMPULSE = (
    "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
    "CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT counter FROM impulse;"
)
WINDOW = (
    "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '1000');\n"
    "CREATE TABLE sink (c BIGINT) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT count(*) FROM impulse GROUP BY hop(interval '2 seconds', interval '10 seconds');"
)
MISSING_FILE = (
    "CREATE TABLE src (value TEXT) WITH (connector = 'single_file', path = '/nonexistent/input.json', "
    "type = 'source', format = 'raw_string');\n"
    "CREATE TABLE sink (value TEXT) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT value FROM src;"
)
PREVIEW = (
    "CREATE TABLE impulse WITH (connector='impulse', event_rate='10', message_count='60'); "
    "SELECT counter, counter * 2 AS d FROM impulse;"
)
OWN_NAMES = (
    "my-own-id",
    "a/b c",
    "x" * 300,
    "bad-interval",
    "bad-sql",
    "events_src",
    "imp",
    "bad2",
    "kafka1",
)
"""Ids and names that the recordings chose: replaced, so that nobody else's are touched."""


def bounded(rate: int, count: int) -> str:
    """A pipeline that ends after so many rows."""
    return IMPULSE.replace("event_rate = '10'", f"event_rate = '{rate}', message_count = '{count}'")


@dataclass
class Outcome:
    """What became of one exchange or timeline."""

    name: str
    differences: list[str] = field(default_factory=list)
    skipped: str | None = None


@dataclass
class Replay:
    """Recorded exchanges of one situation, sent one after the other.

    :param files: whose exchanges, in their order.
    """

    target: Target
    files: tuple[str, ...]
    matching: Matching = field(default_factory=Matching)
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        listed = [item for file in self.files for item in recordings.exchanges(self.target.version, file)]
        self._left: Iterator[Exchange] = iter(listed)
        self._listed = listed
        token = secrets.token_hex(4)
        for name in OWN_NAMES:
            own = f"{name}{token}" if len(name) < 100 else name[8:] + token
            self.matching.ids[name] = own.replace("-", "") if name.isidentifier() else own

    # -- making the situation -----------------------------------------------------------------------------

    def create(self, query: str = IMPULSE, recorded_as: str | None = None, **fields: Any) -> str:
        """Create a pipeline that is not part of the recording; ``recorded_as`` is its id there."""
        body = {
            "name": "conformance",
            "query": query,
            "parallelism": 1,
            "checkpoint_interval_micros": 1_000_000,
            **fields,
        }
        answer = self.target.send("POST", "/pipelines", body)
        assert answer.status_code == 200, f"cannot create: {answer.text}"
        pipeline_id = str(answer.json()["id"])
        if recorded_as is not None:
            self.matching.ids[recorded_as] = pipeline_id
        return pipeline_id

    def recorded_pipeline(self) -> str:
        """Return the id of the pipeline that the first recorded path names."""
        return next(part for item in self._listed for part in item.path.split("/") if part.startswith("pl_"))

    def know_job(self, pipeline_id: str) -> None:
        """Match the job that the recorded paths name with that of a pipeline."""
        for item in self._listed:
            for part in item.path.split("/"):
                if part.startswith("job_") and part != "job_nope":
                    self.matching.ids.setdefault(part, self.target.job(pipeline_id)["id"])

    def checkpoints(self, pipeline_id: str) -> list[dict[str, Any]]:
        """Return the checkpoints of a pipeline."""
        job_id = self.target.job(pipeline_id)["id"]
        answer = self.target.send("GET", f"/pipelines/{pipeline_id}/jobs/{job_id}/checkpoints")
        listed: list[dict[str, Any]] = answer.json()["data"]
        return listed

    def until_checkpoint(self, pipeline_id: str) -> None:
        """Wait until the first checkpoint is done."""
        deadline = self.target.now() + 15
        while not any(item["finish_time"] for item in self.checkpoints(pipeline_id)):
            assert self.target.now() < deadline, "no checkpoint within 15 s"
            self.target.wait(0.1)

    def end(self, *pipeline_ids: str) -> None:
        """Stop and delete pipelines."""
        for pipeline_id in pipeline_ids:
            self.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "immediate"})
        for pipeline_id in pipeline_ids:
            self.target.until(pipeline_id, "Stopped")
            assert self.target.send("DELETE", f"/pipelines/{pipeline_id}").status_code == 200

    # -- sending ------------------------------------------------------------------------------------------

    def send(self, count: int | None = None, *, until: str | None = None) -> None:
        """Send the next recorded requests and compare their answers.

        :param count: how many; None: all that are left.
        :param until: send those before the one with this note.
        """
        if until is not None:
            notes = [item.note for item in self._listed]
            count = notes.index(until, len(self.outcomes)) - len(self.outcomes)
        while count is None or count > 0:
            item = next(self._left, None)
            if item is None:
                return
            self._exchange(item)
            if count is not None:
                count -= 1

    def _exchange(self, item: Exchange) -> None:
        matching = self.matching
        path = item.path
        for recorded, current in matching.ids.items():
            path = path.replace(quote(recorded, safe=""), quote(current, safe=""))
        body = item.body
        if body is not None:
            body = json.loads(matching.now(json.dumps(body)))
        answer = self.target.send(item.method, path, body, authorization=self._authorization(item))
        differences = []
        if answer.status_code != item.status:
            differences.append(
                f"status: {item.status} was recorded, got {answer.status_code}: {answer.text[:200]}"
            )
        else:
            matching.strangers = False
            differences += compare(item.answer, _body(item, answer.text), matching)
            # What else is on the server makes a list long enough for another ``vary``.
            but = {"vary"} if matching.strangers else set()
            differences += compare_headers(item.headers, answer.headers, but=but)
        self.outcomes.append(Outcome(f"{item.file}: {item.note}", differences))

    def _authorization(self, item: Exchange) -> str | None:
        if not item.about_keys:
            return None
        sent = item.authorization or ""
        if sent == "Bearer sekrit-key":
            return f"Bearer {self.target.api_key}"
        return sent if sent.startswith("Bearer ") else "Basic dTpw" if sent == "basic auth" else ""


def _body(item: Exchange, text: str) -> Any:
    if isinstance(item.answer, str) and item.headers.get("content-type", "").startswith("text/plain"):
        return text
    if not text:
        return item.answer if item.answer in (None, "") else ""
    try:
        return json.loads(text)
    except ValueError:
        return text


# -- the situations -----------------------------------------------------------------------------------------


def _calls(replay: Replay) -> None:
    replay.send(until="parallelism 0")
    _begin_of_a_second(replay.target)
    replay.send(until="get")
    target = replay.target
    recorded = {item.note: item for item in replay._listed}
    made = [replay.matching.ids[recorded["create"].answer["id"]]]
    target.until(made[0], "Running")
    target.until(replay.matching.ids[recorded["unknown field"].answer["id"]], "Running")
    replay.send(until="its jobs")
    # Long enough for two checkpoints and for the first sample of the metrics, too short for the second.
    target.wait(3.6)
    replay.send(until="all jobs")
    replay.know_job(made[0])
    _learn_jobs(replay, recorded["all jobs"])
    replay.send(until="first page of 2")
    _begin_of_a_second(target)
    pages = recorded["first page of 2"].answer["data"]
    made += [replay.create(name=page["name"], recorded_as=page["id"]) for page in pages]
    replay.send(until="all jobs after deleting")
    notes = ("a second pipeline with the same name", "SQL with a leading comment")
    made += [replay.matching.ids[recorded[note].answer["id"]] for note in notes]
    target.wait(1)
    replay.end(*made)
    replay.send()


def _learn_jobs(replay: Replay, item: Exchange) -> None:
    # A job of 0.15 does not say whose it is: those in the list are matched by their pipelines' order.
    notes = {other.note: other for other in replay._listed}
    owners = [notes[note].answer["id"] for note in ("parallelism 0", "unknown field", "create")]
    for recorded, owner in zip(item.answer["data"], owners, strict=True):
        current = replay.target.job(replay.matching.ids[owner])
        replay.matching.ids[recorded["id"]] = current["id"]


def _begin_of_a_second(target: Target) -> None:
    # Records of one second are listed in the order in which they were made, and paged as one.
    now = target.now() if target.sandbox else time.time()
    target.wait(1 - now % 1 + 0.02)


def _delete(replay: Replay) -> None:
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    replay.target.until(pipeline_id, "Running")
    replay.send(1)
    replay.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "immediate"})
    replay.target.until(pipeline_id, "Stopped")
    replay.send()


def _stop(replay: Replay) -> None:
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    replay.target.until(pipeline_id, "Running")
    replay.until_checkpoint(pipeline_id)
    replay.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    replay.target.until(pipeline_id, "Stopped")
    replay.know_job(pipeline_id)
    replay.matching.exact = True
    replay.send()


def _checkpoints(replay: Replay) -> None:
    target = replay.target
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    path = f"/pipelines/{pipeline_id}"
    target.until(pipeline_id, "Running")
    replay.know_job(pipeline_id)
    replay.until_checkpoint(pipeline_id)
    replay.matching.exact = True
    target.send("POST", f"{path}/restart", {})
    target.until(pipeline_id, "Running", run_id=2)
    replay.send(1)
    target.send("PATCH", path, {"parallelism": 2})
    target.until(pipeline_id, "Running", run_id=3)
    replay.send(1)
    target.send("PATCH", path, {"stop": "checkpoint"})
    target.until(pipeline_id, "Stopped")
    replay.send(1)
    target.send("PATCH", path, {"stop": "none"})
    target.until(pipeline_id, "Running", run_id=4)
    target.send("PATCH", path, {"stop": "immediate"})
    target.until(pipeline_id, "Stopped")
    replay.send()


def _connections(replay: Replay) -> None:
    # In the recording there was another table, older than all of these.
    body = {"name": f"older_{secrets.token_hex(4)}", "connector": "impulse", "config": {"event_rate": 1}}
    assert replay.target.send("POST", "/connection_tables", body).status_code == 200
    replay.target.wait(1.1)
    replay.send()


def _metrics(replay: Replay) -> None:
    pipeline_id = replay.create(WINDOW, name="metrics", recorded_as=replay.recorded_pipeline())
    replay.target.until(pipeline_id, "Running")
    replay.know_job(pipeline_id)
    replay.target.wait(25)
    replay.send(3)
    replay.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    replay.target.until(pipeline_id, "Stopped")
    replay.send()


def _preview(replay: Replay) -> None:
    replay.send(1)
    replay.target.until(replay.matching.ids[replay.recorded_pipeline()], "Finished")
    replay.send()


def _failed(replay: Replay) -> None:
    pipeline_id = replay.create(MISSING_FILE, recorded_as=replay.recorded_pipeline())
    first = replay.target.until(pipeline_id, "Failed")
    replay.target.send("POST", f"/pipelines/{pipeline_id}/restart", {})
    replay.target.until_job(
        pipeline_id, lambda job: job["state"] == "Failed" and job["run_id"] > first["run_id"]
    )
    replay.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    replay.know_job(pipeline_id)
    replay.send()


def _worker_killed(replay: Replay) -> None:
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    target = replay.target
    assert target.sandbox is not None
    target.until(pipeline_id, "Running")
    target.sandbox.faults.kill_worker(pipeline_id)
    target.until(pipeline_id, "Running", run_id=2)
    if "worker_killed_until_failed" in replay.files:
        target.sandbox.faults.kill_worker(pipeline_id)
        target.until(pipeline_id, "Failed")
    replay.know_job(pipeline_id)
    replay.send()


def _worker_mode(replay: Replay) -> None:
    target = replay.target
    pipeline_id = replay.create(recorded_as=replay.recorded_pipeline())
    first = target.until(pipeline_id, "Running")
    target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    target.until(pipeline_id, "Stopped")
    target.send("POST", f"/pipelines/{pipeline_id}/restart", {"ignore_state": True})
    target.until_job(pipeline_id, lambda job: job["state"] == "Running" and job["id"] != first["id"])
    target.wait(5.4)
    replay.know_job(pipeline_id)
    replay.send()


def _straight(replay: Replay) -> None:
    replay.send()


@dataclass(frozen=True)
class Situation:
    """Recordings that belong together, and how to come to where they were made.

    :param needs: what a server must be for them: ``sandbox`` (takes faults), ``worker`` or ``controller``
        (who leads jobs), ``key``, ``restarts`` (allowed-restarts 2 on 0.15), ``whole`` (nothing).
    """

    files: tuple[str, ...]
    act: Callable[[Replay], None]
    needs: str = "whole"


SITUATIONS = (
    Situation(("errors_and_validation", "pipeline_calls"), _calls),
    Situation(("put",), _straight),
    Situation(("delete",), _delete),
    Situation(("stop_with_checkpoint",), _stop),
    Situation(("checkpoints_of_restart_rescale_stop",), _checkpoints),
    Situation(("connections",), _connections),
    Situation(("connectors",), _straight),
    Situation(("metrics",), _metrics),
    Situation(("preview",), _preview),
    Situation(("failed_pipeline",), _failed, "restarts"),
    Situation(("worker_killed_errors",), _worker_killed, "sandbox"),
    Situation(("worker_killed_until_failed",), _worker_killed, "sandbox"),
    Situation(("worker_mode",), _worker_mode, "worker"),
    Situation(("auth_static_api_key",), _straight, "key"),
)


def replay(target: Target, situation: Situation) -> list[Outcome]:
    """Send the exchanges of a situation again; what the recording of this version lacks is left out."""
    there = recordings.exchange_files(target.version)
    files = tuple(file for file in situation.files if file in there)
    run = Replay(target, files)
    total = sum(len(recordings.exchanges(target.version, file)) for file in files)
    try:
        situation.act(run)
    except AssertionError as error:
        run.outcomes.append(Outcome(f"{'+'.join(files)}: the situation", [str(error)]))
    if len(run.outcomes) < total:
        run.outcomes.append(
            Outcome(f"{'+'.join(files)}: {total - len(run.outcomes)} exchanges", ["not sent"])
        )
    return run.outcomes


# -- the output of a preview --------------------------------------------------------------------------------


def replay_stream(target: Target) -> Outcome:
    """Read a preview's output, and compare it with the recorded one."""
    recorded = recordings.stream(target.version)
    outcome = Outcome("preview_output_sse")
    created = target.send("POST", "/pipelines/preview", {"query": PREVIEW})
    assert created.status_code == 200, created.text
    pipeline_id = created.json()["id"]
    job = target.until(pipeline_id, "Running")
    target.wait(0.35)
    texts: list[str] = []

    def read() -> None:
        answer = target.send("GET", f"/pipelines/{pipeline_id}/jobs/{job['id']}/output")
        outcome.differences += compare_headers(recorded["headers"], answer.headers)
        if answer.status_code != recorded["status"]:
            outcome.differences.append(f"status: got {answer.status_code}")
        texts.append(answer.text)

    reader = threading.Thread(target=read)
    reader.start()
    deadline = 300
    while reader.is_alive() and deadline:
        # The manual clock must move while the stream is read; a real one moves by itself.
        if target.sandbox is not None:
            target.sandbox.advance(0.05)
        reader.join(0.02 if target.sandbox else 0.2)
        deadline -= 1
    reader.join(10)
    outcome.differences += _compare_events(recorded["body"], texts[0] if texts else "")
    return outcome


def _compare_events(recorded: str, current: str) -> list[str]:
    before, now = _events(recorded), _events(current)
    if len(now) < 10:
        return [f"{len(now)} events came"]
    found = []
    for index, (number, data) in enumerate(now):
        if number != index:
            found.append(f"event {index} has the id {number}")
        expected = before[0][1]
        if list(data) != list(expected):
            found.append(f"event {index}: keys {list(expected)} were recorded, got {list(data)}")
            continue
        found += [
            f"event {index}.{key}: {expected[key]!r} was recorded, got {data[key]!r}"
            for key in ("operator_id", "subtask_idx")
            if data[key] != expected[key]
        ]
        rows = json.loads(data["batch"])
        first = data["start_id"]
        wanted = [{"counter": first + offset, "d": 2 * (first + offset)} for offset in range(len(rows))]
        if rows != wanted or len(data["timestamps"]) != len(rows):
            found.append(f"event {index}: {rows} from {first} on")
    numbers = [data["start_id"] for _, data in now]
    if numbers != sorted(set(numbers)) or numbers[0] < 1:
        found.append(f"start_id goes {numbers[:5]} …")
    return found


def _events(text: str) -> list[tuple[int, dict[str, Any]]]:
    events = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        try:
            events.append((int(lines["id"]), json.loads(lines["data"])))
        except (KeyError, ValueError):
            continue
    return events
