"""The errors of this package. They carry data and say what to do next.

Nothing here depends on Airflow. ``hooks/errors.py`` turns these into the errors of a task.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from airflow_provider_arroyo.text import shorten

PLACE = r"Line: (\d+), Column: (\d+)"
"""Pattern: how Arroyo's parser writes a position in its messages."""


class Disposition(StrEnum):
    """What repeating a failed request would do. Set once, where the response is read."""

    RETRY = "retry"
    """The server did not act on the request; repeating it is safe and may succeed."""

    RETRY_IF_IDEMPOTENT = "retry_if_idempotent"
    """The server may have acted on the request; repeat it only if a second request has no further effect."""

    OUTAGE = "outage"
    """Something other than Arroyo responded: a gateway's own page, a redirect, other JSON."""

    PERMANENT = "permanent"
    """Repeating the request changes nothing."""


class ArroyoError(Exception):
    """The base class of all errors of this package.

    :param message: what happened, where, why, and what to do next.
    :param attributes: values for the attributes that the class declares. They are plain values, so that an error can
        be passed between processes as JSON.
    """

    disposition: Disposition = Disposition.PERMANENT
    is_fatal: bool = False
    """Whether a retry of the task would fail in the same way."""

    @property
    def is_own_failure(self) -> bool:
        """Whether Arroyo itself responded and reported its own failure, so that it is reachable."""
        return False

    def __init__(self, message: str, **attributes: Any) -> None:
        super().__init__(message)
        self.message = message
        for name, value in attributes.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no attribute {name!r}")
            setattr(self, name, value)

    def adding(self, line: str) -> Self:
        """Return the same error with another line at the end of its message."""
        error = copy.copy(self)
        error.message = f"{self.message}\n{line}"
        error.args = (error.message,)
        error.__cause__, error.__traceback__ = self.__cause__, self.__traceback__
        return error

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON values, for the way from the triggerer to the worker. Contains no secret."""
        plain = {
            name: value
            for name, value in self.__dict__.items()
            if value is None or isinstance(value, str | int | float)
        }
        return {"type": type(self).__name__, **plain}


class ArroyoSettingsError(ArroyoError, ValueError):
    """The Airflow connection is invalid. The message names the connection and the field."""

    is_fatal = True


class ArroyoNoConnectionError(ArroyoSettingsError):
    """Airflow has no connection of that name, or could not look it up; Airflow does not say which."""

    is_fatal = False


class ArroyoUnreachableError(ArroyoError):
    """A request kept failing for too long. This says nothing about any pipeline.

    The message says whether Arroyo did not respond, or responded each time that it failed.

    :param since: when the first failed request began, seconds since the epoch.
    """

    since: float = 0.0


class ArroyoConnectionError(ArroyoError):
    """There was no complete response: the connection was refused, reset, timed out, or closed too early.

    :param method, path: the request.
    :param is_hang_up: whether the server closed the connection without a response.
    """

    disposition = Disposition.RETRY_IF_IDEMPOTENT
    method: str = ""
    path: str = ""
    is_hang_up: bool = False


class ArroyoTlsError(ArroyoConnectionError):
    """The TLS handshake failed: protocol, certificate authority, or client certificate.

    If Arroyo has responded before, this is an outage: a certificate may be about to be renewed.

    :param is_unsent: whether it is certain that no part of the request was sent.
    """

    disposition = Disposition.PERMANENT
    is_fatal = True
    is_unsent: bool = False

    def as_outage(self) -> Self:
        """Return the same error as one that may pass."""
        error = copy.copy(self)
        error.disposition = Disposition.RETRY if self.is_unsent else Disposition.OUTAGE
        error.is_fatal = False
        return error


class ArroyoApiError(ArroyoError):
    """Arroyo, or something in front of it, responded with an error.

    :param status: the HTTP status.
    :param method, path: the request.
    :param server_message: the server's message; empty if there was none.
    :param retry_after_seconds: the value of the server's ``Retry-After``, if any.
    """

    status: int = 0
    method: str = ""
    path: str = ""
    server_message: str = ""
    retry_after_seconds: float | None = None

    @property
    def is_own_failure(self) -> bool:
        """Whether Arroyo itself responded and reported its own failure (500) or too many requests (429)."""
        return self.status in (429, 500) and self.disposition is not Disposition.OUTAGE


class ArroyoAuthError(ArroyoApiError):
    """Status 401, 403 or 407: the API key, certificate or proxy login is not accepted.

    It is fatal, unless the connection could not be looked up again: the key may have been rotated.
    """

    is_fatal = True

    def not_looked_up(self, reason: ArroyoError) -> Self:
        """Return the same error as one that a retry of the task may fix.

        :param reason: why the connection could not be looked up.
        """
        error = self.adding(f"Whether the connection has changed since is unknown: {reason}")
        error.is_fatal = False
        return error


class ArroyoNotFoundError(ArroyoApiError):
    """Arroyo itself says that there is no such pipeline, job or table. A gateway's 404 is not this error."""


class ArroyoConflictError(ArroyoApiError):
    """Arroyo itself says that the id or name is already taken."""


class ArroyoForeignResponseError(ArroyoApiError):
    """The response is not from Arroyo: HTML, a redirect, or unknown JSON."""

    disposition = Disposition.OUTAGE


class ArroyoUnreadableItemError(ArroyoForeignResponseError):
    """A list has items that cannot be read, beside others that can. The message names them.

    :param names: the name of each; empty where that cannot be read either.
    """

    names: tuple[str, ...] = ()

    def may_include(self, name: str) -> bool:
        """Return whether one of them may have a name."""
        return name in self.names or "" in self.names

    def with_items_of(self, other: ArroyoUnreadableItemError) -> Self:
        """Return the error about the items of two pages."""
        both = self.adding(other.message)
        both.names += other.names
        return both


@dataclass(frozen=True, slots=True)
class SqlDiagnostic:
    """One of Arroyo's messages about some SQL.

    :param message: Arroyo's message.
    :param line, column, end_line, end_column: the position, counted from 1; None if the server sent none (always on
        0.15).
    """

    message: str
    line: int | None = None
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None

    def with_place(self) -> Self:
        """Return the diagnostic with the position named in its text, if it has none of its own."""
        if self.line is None and (found := re.search(PLACE, self.message)):
            return replace(self, line=int(found[1]), column=int(found[2]))
        return self


class ArroyoQueryError(ArroyoApiError):
    """Arroyo refused the SQL, or closes the connection each time it gets it; then the status is 0.

    :param diagnostics: Arroyo's messages, with line and column if it gave them.
    """

    is_fatal = True
    diagnostics: tuple[SqlDiagnostic, ...] = ()


class ArroyoOwnershipError(ArroyoError):
    """A pipeline belongs to another owner. Nothing was changed.

    :param owner: the owner, if known.
    """

    is_fatal = True
    owner: str | None = None


class ArroyoDeployError(ArroyoError):
    """A deploy failed. The message says which pipelines it left.

    :param is_lost_race: whether another deploy of the same pipeline came first.
    :param was_rolled_back: whether the old pipeline runs again. Such an error is fatal, since each retry would
        interrupt that pipeline again.
    """

    is_lost_race: bool = False
    was_rolled_back: bool = False


class ArroyoUnsupportedError(ArroyoError):
    """This version of Arroyo does not support an argument."""

    is_fatal = True

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Self:
        """Return the error for arguments that Arroyo 0.15 would ignore. For use before anything is changed."""
        return cls(
            f"This Arroyo is older than 0.16 and would ignore {', '.join(arguments)}. Nothing was changed. "
            "Leave out what it would ignore, or upgrade the server."
        )


class ArroyoNoSuchNameError(ArroyoError):
    """There is no pipeline of that name.

    :param name: the name.
    :param elsewhere: which other Airflow has one, and what to do about that; empty if none has.
    """

    name: str = ""
    elsewhere: str = ""

    @classmethod
    def of(cls, name: str, other_namespaces: Sequence[str] = ()) -> ArroyoNoSuchNameError:
        """Return the error for a name.

        :param name: the name.
        :param other_namespaces: namespaces that do have a pipeline of that name.
        """
        elsewhere = ""
        if other_namespaces:
            listed = ", ".join(f"namespace {name!r}" if name else "no namespace" for name in other_namespaces)
            elsewhere = f"Another Airflow, in {listed}, has one. If that one is meant, use its pipeline_id."
            if any(other_namespaces):
                elsewhere += " If that is this Airflow, set namespace in the connection's extra."
        advice = elsewhere or "Check the name, and that arroyo_conn_id leads to the right server."
        what = f"There is no pipeline named {shorten(repr(name), 80)} on this Arroyo. {advice}"
        return cls(what, name=name, elsewhere=elsewhere)


class ArroyoAmbiguousNameError(ArroyoError):
    """Several pipelines have that name, and it is not clear which one is meant.

    :param name: the name.
    :param candidates: id, state and creation time (microseconds since the epoch) of each.
    """

    name: str = ""
    candidates: tuple[tuple[str, str, int], ...] = ()


class ArroyoPipelineError(ArroyoError):
    """A pipeline did not reach the wanted state.

    :param outcome: how the wait ended, a value of :class:`.Outcome`.
    :param pipeline_id, pipeline_name, job_id: which pipeline.
    :param state: the last state seen; None if none was.
    :param run_id: the run that was seen last.
    :param reason: Arroyo's reason, if it gave one.
    :param domain: Arroyo's domain of the reason: ``user``, ``external`` or ``internal``; None if not given.
    :param diagnosis: what is wrong with the pipeline, a value of :class:`.Kind`; None if that adds nothing.
    """

    outcome: str = ""
    pipeline_id: str = ""
    pipeline_name: str | None = None
    job_id: str | None = None
    state: str | None = None
    run_id: int | None = None
    reason: str | None = None
    domain: str | None = None
    diagnosis: str | None = None


def error_from_dict(data: Mapping[str, Any]) -> ArroyoError:
    """Return the error from ``to_dict``; an unknown class becomes an :class:`ArroyoError`.

    :raises ValueError: if its disposition is unknown.
    """
    found = globals().get(str(data.get("type")))
    cls = found if isinstance(found, type) and issubclass(found, ArroyoError) else ArroyoError
    known = {name: value for name, value in data.items() if hasattr(cls, name) and not name.startswith("_")}
    if "disposition" in known:
        known["disposition"] = Disposition(known["disposition"])
    return cls(str(data.get("message", "")), **known)
