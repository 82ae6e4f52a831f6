"""The errors of this package: a small tree that carries data and says what to do next.

Nothing here knows Airflow. What a task raises is made of these by ``hooks/errors.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_arroyo.arroyo.details import SqlDiagnostic

SHOWN_CHARACTERS = 300
"""How much of a server's answer an error message repeats."""


def shorten(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Return ``text`` on one line, cut to ``limit`` characters with a mark where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}… ({len(text)} characters)"


class ArroyoError(Exception):
    """What this package raises when something about Arroyo went wrong.

    :param message: what happened, then what to do about it.
    """

    is_transient: bool = False
    """Whether the same call may well succeed in a moment."""

    is_permanent: bool = False
    """Whether trying the whole task again cannot mend it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        # Python's own way calls the class with the message alone, and so cannot copy those that want more.
        return _remade, (type(self), self.args, self.__dict__)

    def may_pass(self, *, has_answered: bool) -> bool:
        """Whether waiting may mend it, as it does an outage.

        :param has_answered: whether Arroyo has answered at this address before.
        """
        return self.is_transient

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON values, to cross from the triggerer to the worker. Holds no secret."""
        return {"type": type(self).__name__, "message": self.message}

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> ArroyoError:
        return cls(str(data.get("message", "")))


def _remade(cls: type[ArroyoError], args: tuple[Any, ...], state: Mapping[str, Any]) -> ArroyoError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class ArroyoSettingsError(ArroyoError, ValueError):
    """The Airflow connection, or the settings made of it, do not say how to reach Arroyo. Names the field."""

    is_permanent = True


class ArroyoNoConnectionError(ArroyoSettingsError):
    """Airflow has no connection of that name, or could not look it up just now: it does not tell which."""

    is_permanent = False


class ArroyoUnreachableError(ArroyoError):
    """No call succeeded for longer than is tolerated. Says nothing about any pipeline.

    :param since: when the first of the failed calls began, seconds since the epoch.
    :param is_out_of_time: whether it was not that, but the time of the whole task that ended it.
    """

    def __init__(self, message: str, *, since: float = 0.0, is_out_of_time: bool = False) -> None:
        super().__init__(message)
        self.since = since
        self.is_out_of_time = is_out_of_time


class ArroyoConnectionError(ArroyoError):
    """No answer came: refused, reset, timed out, or cut short.

    :param method, path: the call.
    :param was_sent: False when the server cannot have seen the call, so that repeating it is safe.
    """

    is_transient = True

    def __init__(self, message: str, *, method: str = "", path: str = "", was_sent: bool = True) -> None:
        super().__init__(message)
        self.method = method
        self.path = path
        self.was_sent = was_sent

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON values."""
        return {
            **super().to_dict(),
            "method": self.method,
            "path": self.path,
            "was_sent": self.was_sent,
        }

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> ArroyoError:
        return cls(
            str(data.get("message", "")),
            method=str(data.get("method", "")),
            path=str(data.get("path", "")),
            was_sent=bool(data.get("was_sent", True)),
        )


class ArroyoTlsError(ArroyoConnectionError):
    """The two ends do not agree on TLS: protocol, authority, or client certificate. No retry mends it."""

    is_transient = False
    is_permanent = True


class ArroyoApiError(ArroyoError):
    """Arroyo answered, and said no.

    :param status: the HTTP status.
    :param method, path: the call.
    :param server_message: the server's own words; empty where it gave none.
    :param retry_after_seconds: what the server's Retry-After asked for, if it did.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        method: str,
        path: str,
        server_message: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.method = method
        self.path = path
        self.server_message = server_message
        self.retry_after_seconds = retry_after_seconds

    @property
    def is_transient(self) -> bool:  # type: ignore[override]  # decided by the status, not by the class
        """Whether the status is one that passes: 429, 502, 503, 504, and 500 on a read."""
        return self.status in (429, 502, 503, 504) or (self.status == 500 and self.method == "GET")

    @property
    def is_permanent(self) -> bool:  # type: ignore[override]  # as above
        """Whether what was sent can never be right: too large (413), or of a wrong type (422)."""
        return self.status in (413, 422)

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON values."""
        return {
            **super().to_dict(),
            "status": self.status,
            "method": self.method,
            "path": self.path,
            "server_message": self.server_message,
        }

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> ArroyoError:
        return cls(
            str(data.get("message", "")),
            status=int(data.get("status", 0)),
            method=str(data.get("method", "")),
            path=str(data.get("path", "")),
            server_message=str(data.get("server_message", "")),
        )


class ArroyoAuthError(ArroyoApiError):
    """401 or 403: the key or the certificate is not accepted."""

    is_permanent = True


class ArroyoNotFoundError(ArroyoApiError):
    """Arroyo knows no such pipeline, job, checkpoint, …: 404 in its own words, or the 400 that stands for it."""


class ArroyoResponseError(ArroyoApiError):
    """An answer that is not Arroyo's: HTML, a redirect, other JSON, or JSON cut short.

    :param is_cut_short: whether it began as Arroyo's would, and broke off: that passes.
    """

    def __init__(self, message: str, *, is_cut_short: bool = False, **api: Any) -> None:
        super().__init__(message, **api)
        self.is_cut_short = is_cut_short

    @property
    def is_transient(self) -> bool:  # type: ignore[override]  # decided by the answer, not by the class
        """Whether asking again may well bring a whole answer."""
        return self.is_cut_short

    @property
    def is_permanent(self) -> bool:  # type: ignore[override]  # as above
        """Whether the address leads to something that is not Arroyo."""
        return not self.is_cut_short

    def may_pass(self, *, has_answered: bool) -> bool:
        """Whether it is an outage: a gateway that shows its own page for a while, where Arroyo was before."""
        return has_answered or self.is_transient

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON values."""
        return {**super().to_dict(), "is_cut_short": self.is_cut_short}

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> ArroyoError:
        error = super()._from_dict(data)
        if isinstance(error, ArroyoResponseError):
            error.is_cut_short = bool(data.get("is_cut_short", False))
        return error


class ArroyoQueryError(ArroyoApiError):
    """Arroyo refused the SQL.

    :param diagnostics: what it said, with places where it gave them.
    """

    is_permanent = True

    def __init__(self, message: str, *, diagnostics: tuple[SqlDiagnostic, ...] = (), **api: Any) -> None:
        super().__init__(message, **api)
        self.diagnostics = diagnostics


class ArroyoConflictError(ArroyoApiError):
    """The id, or the name of a table or profile, is taken already."""


class ArroyoOwnershipError(ArroyoError):
    """A pipeline is not this task's to take. Nothing was changed.

    :param owner: whose it is, where that is known.
    """

    is_permanent = True

    def __init__(self, message: str, *, owner: str | None = None) -> None:
        super().__init__(message)
        self.owner = owner


class ArroyoUnsupportedError(ArroyoError):
    """This version of Arroyo does not know what was asked for."""

    is_permanent = True


class ArroyoNoSuchNameError(ArroyoError):
    """No pipeline has the name that was asked for.

    :param name: the name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no pipeline named {shorten(name, 80)!r} on this Arroyo. "
            "Check the name, and that arroyo_conn_id leads to the server that has it."
        )
        self.name = name


class ArroyoAmbiguousNameError(ArroyoError):
    """Several pipelines have the name that was asked for, and no single one of them is alive.

    :param name: the name.
    :param candidates: id, state and time of creation (microseconds) of each.
    """

    def __init__(self, name: str, candidates: Sequence[tuple[str, str, int]]) -> None:
        listed = "\n".join(
            f"  {pipeline_id} ({state}, created {datetime.fromtimestamp(created / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC)"
            for pipeline_id, state, created in candidates
        )
        super().__init__(
            f"{len(candidates)} pipelines named {shorten(name, 80)!r} could be meant; "
            f"say which by pipeline_id:\n{listed}"
        )
        self.name = name
        self.candidates = tuple(candidates)


class ArroyoPipelineError(ArroyoError):
    """A pipeline did not get where it was wanted.

    :param outcome: how the wait ended, a value of ``monitoring.verdict.Outcome``.
    :param pipeline_id, name, job_id: which pipeline.
    :param state: the last state seen; None if none was.
    :param run_id: the run that was seen last.
    :param reason: Arroyo's own words, where it gave any.
    :param domain: whose fault that is, ``user``, ``external`` or ``internal``; None where not told.
    """

    def __init__(
        self,
        message: str,
        *,
        outcome: str,
        pipeline_id: str,
        name: str | None = None,
        job_id: str | None = None,
        state: str | None = None,
        run_id: int | None = None,
        reason: str | None = None,
        domain: str | None = None,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.pipeline_id = pipeline_id
        self.name = name
        self.job_id = job_id
        self.state = state
        self.run_id = run_id
        self.reason = reason
        self.domain = domain


_BY_NAME: dict[str, type[ArroyoError]] = {
    cls.__name__: cls
    for cls in (
        ArroyoError,
        ArroyoSettingsError,
        ArroyoNoConnectionError,
        ArroyoConnectionError,
        ArroyoTlsError,
        ArroyoApiError,
        ArroyoAuthError,
        ArroyoNotFoundError,
        ArroyoResponseError,
        ArroyoQueryError,
    )
}


def error_from_dict(data: Mapping[str, Any]) -> ArroyoError:
    """Make the error again that ``to_dict`` described; an unknown kind becomes a plain one."""
    return _BY_NAME.get(str(data.get("type")), ArroyoError)._from_dict(data)
