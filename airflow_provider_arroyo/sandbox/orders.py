"""The faults that can be ordered, as plain records: what each takes, and what is wrong with an order.

One list for Python, the command line and ``/sandbox/faults``, so that they cannot differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

StopMode = Literal["checkpoint", "graceful", "immediate", "force"]
Domain = Literal["user", "external", "internal"]


@dataclass(slots=True, kw_only=True)
class Order:
    """A fault.

    :param id: given to it when it is ordered; by it, it can be taken back.
    """

    kind: ClassVar[str] = ""
    id: int = field(default=0, metadata={"given": True})


@dataclass(slots=True, kw_only=True)
class OnRequest(Order):
    """A fault that befalls requests to the API.

    :param method: only these, such as ``"GET"``; None: any.
    :param path: only paths like this pattern; ``*`` stands for anything, slashes too.
    :param times: how many requests it befalls; None: every one until it is taken back.
    :param skip: how many that match go by unharmed before.
    """

    method: str | None = None
    path: str = "*"
    times: int | None = 1
    skip: int = 0

    def matches(self, method: str, path: str) -> bool:
        """Return whether a request is of those that it befalls."""
        return (self.method is None or self.method.upper() == method) and fnmatchcase(path, self.path)


@dataclass(slots=True, kw_only=True)
class Status(OnRequest):
    """Answer with a status instead.

    :param status: 100 to 599.
    :param error: the text of the ``{"error"}`` body; None: no body.
    :param retry_after: seconds for a ``Retry-After`` header; None: none.
    :param after_effect: let the call take effect first: only its answer is lost.
    """

    kind: ClassVar[str] = "status"
    status: int = 503
    error: str | None = "the leader is not currently available; try again later"
    retry_after: int | None = None
    after_effect: bool = False


@dataclass(slots=True, kw_only=True)
class Latency(OnRequest):
    """Answer later.

    :param seconds: by how much, in real seconds.
    :param jitter_seconds: by how much more at most, drawn at random.
    """

    kind: ClassVar[str] = "latency"
    times: int | None = None
    seconds: float = 1.0
    jitter_seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Reset(OnRequest):
    """Reset the connection instead of answering.

    :param after_effect: let the call take effect first.
    """

    kind: ClassVar[str] = "reset"
    after_effect: bool = False


@dataclass(slots=True, kw_only=True)
class Hang(OnRequest):
    """Begin an answer that never ends.

    :param after_effect: let the call take effect first.
    """

    kind: ClassVar[str] = "hang"
    after_effect: bool = False


@dataclass(slots=True, kw_only=True)
class CutShort(OnRequest):
    """Send the first half of the answer, then close the connection. The call takes effect."""

    kind: ClassVar[str] = "cut_short"


@dataclass(slots=True, kw_only=True)
class NotJson(OnRequest):
    """Answer 200 with something that is not Arroyo's: a page of a proxy, say.

    :param body: the text.
    :param content_type: what it claims to be.
    """

    kind: ClassVar[str] = "not_json"
    body: str = "<html><body><h1>Sign in</h1></body></html>"
    content_type: str = "text/html; charset=utf-8"


@dataclass(slots=True, kw_only=True)
class ApiAway(Order):
    """Take the API away: open connections are reset, new ones refused. Pipelines run on.

    :param seconds: for how long, on the sandbox's clock; None: until it is brought back (Python only).
    """

    kind: ClassVar[str] = "api_away"
    seconds: float | None = None


@dataclass(slots=True, kw_only=True)
class ControllerAway(Order):
    """Take the controller away: the API answers, and nothing that is asked happens.

    :param seconds: for how long; None: until it is brought back.
    """

    kind: ClassVar[str] = "controller_away"
    seconds: float | None = None


@dataclass(slots=True, kw_only=True)
class ServerRestart(Order):
    """Kill the whole server and start it again: afterwards every job is scheduled anew.

    :param seconds: how long it is away.
    """

    kind: ClassVar[str] = "server_restart"
    seconds: float = 3.0


@dataclass(slots=True, kw_only=True)
class ClockSkew(Order):
    """Let the server's clock be wrong: the ``date`` header and every time in the answers.

    :param seconds: how far it is ahead; below 0: behind.
    """

    kind: ClassVar[str] = "clock_skew"
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class OnPipeline(Order):
    """A fault that befalls pipelines.

    :param pipeline: their id or name, or a pattern of it (``*`` stands for anything). Where none is there
        yet, it waits for those that will be created, as many as ``times`` says.
    :param after: seconds from now on, or from when the pipeline first runs where it was created later.
    :param times: how many pipelines still to be created it befalls, where none is there; None: all.
    """

    pipeline: str = "*"
    after: float = 0.0
    times: int | None = 1

    def matches(self, pipeline_id: str, name: str) -> bool:
        """Return whether a pipeline is of those that it befalls."""
        return self.pipeline in (pipeline_id, name) or (
            fnmatchcase(pipeline_id, self.pipeline) or fnmatchcase(name, self.pipeline)
        )


@dataclass(slots=True, kw_only=True)
class Fail(OnPipeline):
    """Let it fail.

    :param error: the reason.
    :param domain: whose fault it is.
    :param restarts: let Arroyo try it again as often as it is allowed (0.15), where it would.
    """

    kind: ClassVar[str] = "fail"
    error: str = "injected failure"
    domain: Domain = "internal"
    restarts: bool = False


@dataclass(slots=True, kw_only=True)
class Flap(OnPipeline):
    """Let its next runs end early, each with a recovery.

    :param runs: how many.
    :param every: how long each lasts, in seconds.
    """

    kind: ClassVar[str] = "flap"
    runs: int = 3
    every: float = 0.25


@dataclass(slots=True, kw_only=True)
class NeverStarts(OnPipeline):
    """Let it stand in Scheduling for ever from its next start on."""

    kind: ClassVar[str] = "never_starts"


@dataclass(slots=True, kw_only=True)
class ShowState(OnPipeline):
    """Let it show a state, known or not, and stand there.

    :param state: its name.
    :param seconds: for how long; then it goes on where it was. None: until it is let go.
    """

    kind: ClassVar[str] = "state"
    state: str = "Hibernating"
    seconds: float | None = None


@dataclass(slots=True, kw_only=True)
class KillWorker(OnPipeline):
    """Kill its worker: the controller notices more than half a second later, and recovers it."""

    kind: ClassVar[str] = "kill_worker"


@dataclass(slots=True, kw_only=True)
class Delete(OnPipeline):
    """Let someone else delete it, whatever its state."""

    kind: ClassVar[str] = "delete"


@dataclass(slots=True, kw_only=True)
class Stop(OnPipeline):
    """Let someone else stop it.

    :param mode: how.
    """

    kind: ClassVar[str] = "stop"
    mode: StopMode = "checkpoint"


KINDS: Mapping[str, type[Order]] = {
    order.kind: order
    for order in (
        Status,
        Latency,
        Reset,
        Hang,
        CutShort,
        NotJson,
        ApiAway,
        ControllerAway,
        ServerRestart,
        ClockSkew,
        Fail,
        Flap,
        NeverStarts,
        ShowState,
        KillWorker,
        Delete,
        Stop,
    )
}


def parse(fields: Mapping[str, Any]) -> Order:
    """Return the order that a mapping describes, with texts read as what the fields take.

    :param fields: ``kind`` and the fields of that kind.
    :raises ValueError: naming the field and the choices.
    """
    values = dict(fields)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
    order_class = KINDS[kind]
    hints = get_type_hints(order_class)
    known = [item.name for item in dataclasses.fields(order_class) if not item.metadata.get("given")]
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{name}: a fault of kind {kind} takes {', '.join(known)}")
        values[name] = _read(name, value, hints[name])
    order = order_class(**values)
    _check(order)
    return order


def choices() -> dict[str, dict[str, dict[str, Any]]]:
    """Return what can be ordered: by kind, the fields with their defaults and what they take."""
    listed: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, order_class in KINDS.items():
        hints = get_type_hints(order_class)
        listed[kind] = {
            item.name: {
                "default": item.default,
                "choices": _choices(hints[item.name]),
            }
            for item in dataclasses.fields(order_class)
            if not item.metadata.get("given")
        }
    return listed


def _choices(hint: Any) -> list[str] | None:
    if hint is bool:
        return ["false", "true"]
    return list(get_args(hint)) if get_origin(hint) is Literal else None


def describe(order: Order) -> dict[str, Any]:
    """Return an order as a mapping, with its kind."""
    return {"kind": order.kind, **dataclasses.asdict(order)}


def _read(name: str, value: Any, hint: Any) -> Any:
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if choices:
        if value not in choices:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(choices)}")
        return value
    types = [item for item in get_args(hint) or (hint,) if item is not type(None)]
    if value is None or value in ("none", "null"):
        if type(None) in get_args(hint):
            return None
        raise ValueError(f"{name}: must be {types[0].__name__}, not nothing")
    wanted = types[0]
    try:
        if wanted is bool:
            return _boolean(value)
        if wanted is str:
            return str(value)
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if wanted is int:
            if number != int(number):
                raise ValueError
            return int(number)
    except (TypeError, ValueError) as error:
        names = {bool: "true or false", int: "a whole number", float: "a number"}
        raise ValueError(f"{name}: must be {names[wanted]}, not {value!r}") from error
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    choices = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return choices[str(value).lower()] if str(value).lower() in choices else bool(int("x"))


def _check(order: Order) -> None:
    for item in dataclasses.fields(order):
        value = getattr(order, item.name)
        if item.name == "status" and not 100 <= value <= 599:
            raise ValueError(f"status: must be 100 to 599, not {value}")
        if item.name == "times" and value is not None and value < 1:
            raise ValueError(f"times: must be 1 or more, or none for every one, not {value}")
        if isinstance(value, float) and value < 0 and order.kind != ClockSkew.kind:
            raise ValueError(f"{item.name}: must not be below 0, not {value:g}")
        if isinstance(value, int) and not isinstance(value, bool) and value < 0:
            raise ValueError(f"{item.name}: must not be below 0, not {value}")
        if item.name in ("state", "pipeline") and not value:
            raise ValueError(f"{item.name}: must not be empty")
