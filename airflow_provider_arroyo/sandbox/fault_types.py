"""The faults that can be injected, as plain records: their fields, and what is wrong with a request for one.

One list for Python, the command line and ``/sandbox/faults``, so that they cannot differ.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from .records import Pipeline

_HIGHEST = 1_000_000_000
StopMode = Literal["checkpoint", "graceful", "immediate", "force"]
Domain = Literal["user", "external", "internal"]


def _number(default: Any, low: float, high: float = _HIGHEST) -> Any:
    return field(default=default, metadata={"limits": (low, high)})


@dataclass(kw_only=True)
class Fault:
    """A fault.

    :param id: assigned when it is injected; ``remove(id)`` removes it.
    """

    positional: ClassVar[tuple[str, ...]] = ()
    """The fields that the method of ``Faults`` takes by position."""
    id: int = 0


@dataclass(kw_only=True)
class RequestFault(Fault):
    """A fault that hits requests to the API.

    :param method: only these, such as ``"GET"``; None: any.
    :param path: only paths like this pattern; ``*`` stands for anything, slashes included.
    :param times: how many requests it hits; None: all until it is removed.
    :param skip: how many matching requests to let pass first.
    """

    method: str | None = None
    path: str = "*"
    times: int | None = _number(1, 1)
    skip: int = 0

    def matches(self, method: str, path: str) -> bool:
        """Return whether it can hit a request."""
        return (self.method is None or self.method.upper() == method) and fnmatchcase(path, self.path)


@dataclass(kw_only=True)
class ReplacingFault(RequestFault):
    """A fault that replaces the response.

    :param after_effect: whether the call takes effect first, so that only its response is lost.
    """

    after_effect: bool = False


class Reset(ReplacingFault):
    """Reset the connection."""


class HangUp(ReplacingFault):
    """Close the connection without a response, as after a crash of Arroyo's planner."""


class Hang(ReplacingFault):
    """Start a response and never finish it."""


@dataclass(kw_only=True)
class Status(ReplacingFault):
    """Respond with a status.

    :param status: 200 to 599.
    :param error: the text of the ``{"error"}`` body; None: no body.
    :param retry_after: seconds for a ``Retry-After`` header; None: none.
    """

    positional = ("status",)
    status: int = _number(503, 200, 599)
    error: str | None = "the leader is not currently available; try again later"
    retry_after: int | None = None


class Endless(RequestFault):
    """Respond with a body that never ends."""


class CutShort(RequestFault):
    """Send the first half of the response, then close the connection. The call takes effect."""


@dataclass(kw_only=True)
class NotJson(RequestFault):
    """Respond with status 200 and a body that is not Arroyo's, such as the page of a proxy."""

    body: str = "<html><body><h1>Sign in</h1></body></html>"
    content_type: str = "text/html; charset=utf-8"


@dataclass(kw_only=True)
class Latency(RequestFault):
    """Delay the response by ``seconds`` of real time, plus a random time of up to ``jitter_seconds``."""

    positional = ("seconds",)
    times: int | None = _number(None, 1)
    seconds: float = 1.0
    jitter_seconds: float = 0.0


@dataclass(kw_only=True)
class EarlyHints(RequestFault):
    """Send an interim response (103 Early Hints) before the response."""

    times: int | None = _number(None, 1)


@dataclass(kw_only=True)
class Away(Fault):
    """A part of the server is down.

    :param seconds: for how long, on the sandbox's clock; None: until it is brought back (for the API only
        from Python).
    """

    positional = ("seconds",)
    seconds: float | None = None


class ApiAway(Away):
    """Take the API down for ``seconds``, or until ``api_back()``: connections are reset, new ones refused."""


class ControllerAway(Away):
    """Take the controller down for ``seconds``, or until ``controller_back()``: requests have no effect meanwhile."""


@dataclass(kw_only=True)
class ServerRestart(Fault):
    """Kill the whole server, and start it again after ``seconds``. All jobs are scheduled again."""

    positional = ("seconds",)
    seconds: float = 3.0


@dataclass(kw_only=True)
class ClockSkew(Fault):
    """Set the server's clock ahead by ``seconds``: the ``date`` header and all times in responses."""

    positional = ("seconds",)
    seconds: float = _number(0.0, -_HIGHEST)


@dataclass(kw_only=True)
class PipelineFault(Fault):
    """A fault that hits pipelines.

    :param pipeline: id or name, or a pattern (``*`` stands for anything). If there is no such pipeline yet,
        the fault waits for the next ``times`` pipelines that are created.
    :param after: seconds from now, or for a pipeline that is created later, from its first run.
    :param times: how many pipelines that do not exist yet it hits; None: all.
    """

    positional: ClassVar[tuple[str, ...]] = ("pipeline",)
    at_creation: ClassVar[bool] = False
    """Whether it applies from the creation of a pipeline, not from its first run."""
    pipeline: str = "*"
    after: float = 0.0
    times: int | None = _number(1, 1)

    def matches(self, pipeline: Pipeline) -> bool:
        """Return whether it can hit a pipeline."""
        return any(
            self.pipeline == name or fnmatchcase(name, self.pipeline) for name in (pipeline.id, pipeline.name)
        )


@dataclass(kw_only=True)
class Fail(PipelineFault):
    """Let the pipeline fail with a reason.

    :param restarts: whether Arroyo first restarts it as often as allowed (0.15).
    """

    error: str = "injected failure"
    domain: Domain = "internal"
    restarts: bool = False


@dataclass(kw_only=True)
class Flap(PipelineFault):
    """Let the next runs of the pipeline end after ``every`` seconds each, and recover."""

    at_creation = True
    runs: int = 3
    every: float = 0.25


class KafkaAway(PipelineFault):
    """Make the Kafka broker unreachable: from the next run on, the pipeline runs for 30 s, then recovers, and so on.

    The first checkpoint of each run begins and never finishes. A stop takes many seconds and takes no checkpoint.
    """

    at_creation = True


@dataclass(kw_only=True)
class LatePickup(PipelineFault):
    """Let the controller pick up the pipeline late. If it is stopped before that, it never starts."""

    at_creation = True
    seconds: float = 1.0


class NeverStarts(PipelineFault):
    """Let the pipeline stay in Scheduling from its next start on."""

    at_creation = True


@dataclass(kw_only=True)
class ShowState(PipelineFault):
    """Let the pipeline show a state, known or not, and stay there.

    :param seconds: for how long; then it continues where it was. None: until ``release()``.
    """

    positional = ("pipeline", "state")
    state: str = "Hibernating"
    seconds: float | None = None


@dataclass(kw_only=True)
class Traffic(PipelineFault):
    """Let the metrics of the pipeline show other traffic than its SQL says, from now on. Its state does not change.

    :param rate: rows per second of all its sources; None: as the SQL says.
    :param swing: by which share of it the rate rises and falls, 0 to 1.
    :param period: how many seconds one rise and fall take.
    :param backpressure: of all operators before its sinks, 0 to 1; None: almost none.
    """

    at_creation = True
    rate: float | None = None
    swing: float = _number(0.0, 0, 1)
    period: float = _number(60.0, 0.001)
    backpressure: float | None = _number(None, 0, 1)


class KillWorker(PipelineFault):
    """Kill the worker of the pipeline. After more than half a second, the controller notices and recovers it."""


class Delete(PipelineFault):
    """Delete the pipeline externally, in any state."""


@dataclass(kw_only=True)
class Stop(PipelineFault):
    """Stop the pipeline externally."""

    mode: StopMode = "checkpoint"


KINDS: Mapping[str, type[Fault]] = {
    re.sub(r"(?<!^)([A-Z])", r"_\1", kind.__name__).lower(): kind
    for kind in (
        *(Status, Latency, EarlyHints, Reset, HangUp, Hang, Endless, CutShort, NotJson),
        *(ApiAway, ControllerAway, ServerRestart, ClockSkew),
        *(Fail, Flap, KafkaAway, LatePickup, NeverStarts, ShowState, Traffic, KillWorker, Delete, Stop),
    )
}


def parse(fields: Mapping[str, Any], *, from_outside: bool = False) -> Fault:
    """Return the fault that a mapping describes, with texts read as what the fields take.

    :param fields: ``kind`` and the fields of that kind.
    :param from_outside: whether it is injected from outside of Python, where ``api_back`` cannot be called.
    :raises ValueError: naming the field and the choices.
    """
    values = dict(fields)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
    known = {item.name: item for item in dataclasses.fields(KINDS[kind]) if item.name != "id"}
    hints = get_type_hints(KINDS[kind])
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{name}: a fault of kind {kind} takes {', '.join(known) or 'no fields'}")
        values[name] = _read(name, value, hints[name])
        _check(name, values[name], known[name].metadata.get("limits", (0, _HIGHEST)))
    if from_outside and kind == "api_away" and values.get("seconds") is None:
        raise ValueError("seconds: must be given, or nothing could bring the API back")
    return KINDS[kind](**values)


def choices(hint: Any) -> list[str] | None:
    """Return what a field with this annotation takes; None: more than can be listed."""
    if hint is bool:
        return ["false", "true"]
    return list(get_args(hint)) if get_origin(hint) is Literal else None


def _read(name: str, value: Any, hint: Any) -> Any:
    if hint is bool:
        value = str(value).lower()
    if (allowed := choices(hint)) is not None:
        if value not in allowed:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
        return value == "true" if hint is bool else value
    (wanted,) = [item for item in get_args(hint) or (hint,) if item is not NoneType]
    if value in (None, "none", "null") and wanted is not hint:
        return None
    if wanted is str and (value is None or isinstance(value, list | dict)):
        raise ValueError(f"{name}: must be text, not {value!r}")
    if wanted is str:
        return str(value)
    try:
        number = float(str(value))  # not of a bool, which is a number to Python
        if wanted is int and number != int(number):
            raise ValueError
        return wanted(number)
    except (ValueError, OverflowError) as error:
        kind = "a whole number" if wanted is int else "a number"
        raise ValueError(f"{name}: must be {kind}, not {value!r}") from error


def _check(name: str, value: Any, limits: tuple[float, float]) -> None:
    if isinstance(value, int | float) and not limits[0] <= value <= limits[1]:
        raise ValueError(f"{name}: must be from {limits[0]:,} to {limits[1]:,}, not {value:g}")
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        raise ValueError(f"{name}: must be Unicode without lone surrogates, not {value!r}")
    if name == "content_type" and (not value.isprintable() or value != value.strip()):
        raise ValueError(f"content_type: must be one line without spaces around it, not {value!r}")
    if name in ("state", "pipeline") and not value:
        raise ValueError(f"{name}: must not be empty")
