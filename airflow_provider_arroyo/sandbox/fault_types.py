"""The faults that can be injected, as a table: what each does and takes, and what is wrong with a request for one.

One table for Python, the command line, ``/sandbox/faults`` and the documentation, so that they cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, SimpleNamespace
from typing import Any, Literal, get_args, get_origin

_HIGHEST = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Field:
    """What a fault takes.

    :param default: its value if it is not given.
    :param takes: the type of its values.
    :param meaning: what it is for; empty: its name says so.
    :param low: the lowest number.
    :param high: the highest number.
    """

    default: Any
    takes: Any
    meaning: str = ""
    low: float = 0
    high: float = _HIGHEST

    @property
    def choices(self) -> list[str] | None:
        """Its values; None: more than can be listed."""
        if self.takes is bool:
            return ["false", "true"]
        return list(get_args(self.takes)) if get_origin(self.takes) is Literal else None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    :param hits: what it hits: ``requests``, ``pipelines`` or the ``server``.
    :param meaning: what it does.
    :param positional: the fields that the method of ``Faults`` takes by position.
    :param own: the fields that it takes besides those that all of ``hits`` take.
    :param at_creation: whether it applies from the creation of a pipeline, not from its first run.
    """

    hits: Literal["requests", "pipelines", "server"]
    meaning: str
    positional: tuple[str, ...]
    own: Mapping[str, Field]
    at_creation: bool = False

    @property
    def fields(self) -> dict[str, Field]:
        """All that it takes."""
        return {**_COMMON[self.hits], **self.own}


class Fault(SimpleNamespace):
    """A fault: its kind, its id, and the fields of its kind, of which it counts down ``times`` and ``skip``."""

    kind: str
    id: int
    times: int | None


_COMMON: Mapping[str, Mapping[str, Field]] = {
    "requests": {
        "method": Field(None, str | None, 'only these, such as "GET"; None: any'),
        "path": Field("*", str, "only paths like this pattern; ``*`` stands for anything, slashes included"),
        "times": Field(1, int | None, "how many requests it hits; None: all until it is removed", low=1),
        "skip": Field(0, int, "how many matching requests to let pass first"),
    },
    "pipelines": {
        "pipeline": Field("*", str, "id or name, or a pattern; if there is none yet, the fault waits for it"),
        "after": Field(0.0, float, "seconds from now, or for a later pipeline, from its first run"),
        "times": Field(1, int | None, "how many pipelines it hits that do not exist yet; None: all", low=1),
    },
    "server": {},
}


def _on_requests(meaning: str, *positional: str, **own: Field) -> Kind:
    return Kind("requests", meaning, positional, own)


def _on_server(meaning: str, **own: Field) -> Kind:
    return Kind("server", meaning, tuple(own), own)


def _on_pipelines(meaning: str, *positional: str, at_creation: bool = False, **own: Field) -> Kind:
    return Kind("pipelines", meaning, ("pipeline", *positional), own, at_creation)


_AFTER = Field(False, bool, "whether the call takes effect first, so that only its response is lost")
_ALWAYS = Field(None, int | None, low=1)
_AWAY = Field(None, float | None)
KINDS: Mapping[str, Kind] = {
    "status": _on_requests(
        "Respond with a status.",
        "status",
        after_effect=_AFTER,
        status=Field(503, int, "200 to 599", 200, 599),
        error=Field(
            "the leader is not currently available; try again later",
            str | None,
            'the text of the ``{"error"}`` body; None: no body',
        ),
        retry_after=Field(None, int | None, "seconds for a ``Retry-After`` header; None: none"),
    ),
    "latency": _on_requests(
        "Delay the response by ``seconds`` of real time, plus a random time of up to ``jitter_seconds``.",
        "seconds",
        times=_ALWAYS,
        seconds=Field(1.0, float),
        jitter_seconds=Field(0.0, float),
    ),
    "early_hints": _on_requests(
        "Send an interim response (103 Early Hints) before the response.", times=_ALWAYS
    ),
    "reset": _on_requests("Reset the connection.", after_effect=_AFTER),
    "hang_up": _on_requests(
        "Close the connection without a response, as after a crash of Arroyo's planner.", after_effect=_AFTER
    ),
    "hang": _on_requests("Start a response and never finish it.", after_effect=_AFTER),
    "endless": _on_requests("Respond with a body that never ends."),
    "cut_short": _on_requests(
        "Send the first half of the response, then close the connection. The call takes effect."
    ),
    "not_json": _on_requests(
        "Respond with status 200 and a body that is not Arroyo's, such as the page of a proxy.",
        body=Field("<html><body><h1>Sign in</h1></body></html>", str),
        content_type=Field("text/html; charset=utf-8", str),
    ),
    "api_away": _on_server(
        "Take the API down for ``seconds``, or until ``api_back()``: connections are reset, "
        "new ones refused.",
        seconds=_AWAY,
    ),
    "controller_away": _on_server(
        "Take the controller down for ``seconds``, or until ``controller_back()``: requests have no effect "
        "meanwhile.",
        seconds=_AWAY,
    ),
    "server_restart": _on_server(
        "Kill the whole server, and start it again after ``seconds``. All jobs are scheduled again.",
        seconds=Field(3.0, float),
    ),
    "clock_skew": _on_server(
        "Set the server's clock ahead by ``seconds``, or behind it: the ``date`` header, and the times of all that "
        "happens from now on.",
        seconds=Field(0.0, float, low=-_HIGHEST),
    ),
    "fail": _on_pipelines(
        "Let the pipeline fail with a reason.",
        error=Field("injected failure", str),
        domain=Field("internal", Literal["user", "external", "internal"]),
        restarts=Field(False, bool, "whether Arroyo first restarts it as often as allowed (0.15)"),
    ),
    "flap": _on_pipelines(
        "Let the next runs of the pipeline end after ``every`` seconds each, and recover.",
        at_creation=True,
        runs=Field(3, int),
        every=Field(0.25, float),
    ),
    "kafka_away": _on_pipelines(
        "Make the Kafka broker unreachable: from the next run on, the pipeline runs for 30 s, then recovers, and so "
        "on. The first checkpoint of each run begins and never finishes. A stop takes many seconds and takes no "
        "checkpoint.",
        at_creation=True,
    ),
    "late_pickup": _on_pipelines(
        "Let the controller pick up the pipeline late. If it is stopped before that, it never starts.",
        at_creation=True,
        seconds=Field(1.0, float),
    ),
    "never_starts": _on_pipelines(
        "Let the pipeline stay in Scheduling from its next start on.", at_creation=True
    ),
    "show_state": _on_pipelines(
        "Let the pipeline show a state, known or not, and stay there.",
        "state",
        state=Field("Hibernating", str),
        seconds=Field(
            None, float | None, "for how long; then it continues where it was. None: until ``release()``"
        ),
    ),
    "traffic": _on_pipelines(
        "Let the metrics of the pipeline show other traffic than its SQL says, from now on. Its state does not "
        "change.",
        at_creation=True,
        rate=Field(None, float | None, "rows per second of all its sources; None: as the SQL says"),
        swing=Field(0.0, float, "by which share of it the rate rises and falls, 0 to 1", 0, 1),
        period=Field(60.0, float, "how many seconds one rise and fall take", 0.001),
        backpressure=Field(
            None, float | None, "of all operators before its sinks, 0 to 1; None: almost none", 0, 1
        ),
    ),
    "kill_worker": _on_pipelines(
        "Kill the worker of the pipeline. After more than half a second, the controller notices and recovers it."
    ),
    "delete": _on_pipelines("Delete the pipeline externally, in any state."),
    "stop": _on_pipelines(
        "Stop the pipeline externally.",
        mode=Field("checkpoint", Literal["checkpoint", "graceful", "immediate", "force"]),
    ),
}


def parse(given: Mapping[str, Any], *, from_outside: bool = False) -> Fault:
    """Return the fault that a mapping describes, with texts read as what the fields take.

    :param given: ``kind`` and the fields of that kind.
    :param from_outside: whether it is injected from outside of Python, where ``api_back`` cannot be called.
    :raises ValueError: naming the field and the choices.
    """
    values = dict(given)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
    fields = KINDS[kind].fields
    for name, value in values.items():
        if name not in fields:
            raise ValueError(f"{name}: a fault of kind {kind} takes {', '.join(fields) or 'no fields'}")
        values[name] = _read(name, value, fields[name])
    if from_outside and kind == "api_away" and values.get("seconds") is None:
        raise ValueError("seconds: must be given, or nothing could bring the API back")
    return Fault(kind=kind, id=0, **{name: field.default for name, field in fields.items()} | values)


def _read(name: str, value: Any, field: Field) -> Any:
    (wanted, *others) = get_args(field.takes) or (field.takes,)
    if value in (None, "none", "null") and NoneType in others:
        return None
    if (allowed := field.choices) is not None:
        value = str(value).lower() if wanted is bool else value
        if value not in allowed:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
        return value == "true" if wanted is bool else value
    if wanted is str:
        return _text(name, value)
    try:
        number = float(str(value))  # not of a bool, which is a number to Python
        if wanted is int and number != int(number):
            raise ValueError
    except (ValueError, OverflowError) as error:
        kind = "a whole number" if wanted is int else "a number"
        raise ValueError(f"{name}: must be {kind}, not {value!r}") from error
    if not field.low <= number <= field.high:
        raise ValueError(f"{name}: must be from {field.low:,} to {field.high:,}, not {number:g}")
    return wanted(number)


def _text(name: str, value: Any) -> str:
    if value is None or isinstance(value, list | dict):
        raise ValueError(f"{name}: must be text, not {value!r}")
    text = str(value)
    if re.search("[\ud800-\udfff]", text):
        raise ValueError(f"{name}: must be Unicode without lone surrogates, not {value!r}")
    if name == "content_type" and (not text.isprintable() or text != text.strip()):
        raise ValueError(f"content_type: must be one line without spaces around it, not {value!r}")
    if name in ("state", "pipeline") and not text:
        raise ValueError(f"{name}: must not be empty")
    return text
