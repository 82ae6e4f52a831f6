"""What a look costs the server, as measured, and which kind of look is the cheaper one for a tick.

A server answers ``GET /jobs`` in a time that grows with the jobs on it, and ``GET /pipelines/{id}/jobs`` in a
time that does not. Which is cheaper for so many pipelines therefore differs from server to server and from
hour to hour. Only the caller's side can be measured here, so three things are taken off a look's time: what
this process worked itself, the way there and back (from ``GET /ping``, which costs the server next to
nothing), and waiting that was none of the server's doing (by taking the best of the last few).
"""

from __future__ import annotations

from collections import deque
from enum import Enum

SAMPLES = 8
"""How many looks of a kind are remembered. The best of them counts; an old best is soon forgotten."""

EMPTY_ANSWER_SECONDS = 0.0003
"""What even an empty answer costs a server; not part of the way there and back."""

LEAST_SECONDS = 0.0001
"""No look costs less; keeps errors of measurement from making one free."""

GUESSED_SINGLE_SECONDS = 0.0008
GUESSED_LIST_SECONDS = 0.010
"""Before anything was measured: as seen on a real server with 500 jobs."""

HYSTERESIS = 0.9
"""The other kind must be cheaper by this factor before a feed changes over."""

EXPLORING_SHARE = 0.05
"""Which share of what the looks cost may go into finding out whether the other kind has become cheaper."""

REFRESH_SECONDS = 60.0
"""How often the cheap things are measured again: a single look, while lists are used, and the way."""

LIST_REST_SECONDS = 300.0
"""For how long lists are left alone after they failed twice where single looks did not."""


class Look(Enum):
    """The two kinds of look."""

    LIST = "list"
    SINGLE = "single"


class _Samples:
    """The last few times of one kind of request."""

    __slots__ = ("own", "seconds", "size")

    def __init__(self) -> None:
        self.seconds: deque[tuple[float, int]] = deque(maxlen=SAMPLES)
        self.own: deque[float] = deque(maxlen=SAMPLES)
        self.size = 1

    def add(self, seconds: float, own_seconds: float, size: int = 1) -> None:
        self.size = max(1, size)
        self.seconds.append((seconds, self.size))
        self.own.append(own_seconds)

    def away(self) -> float | None:
        """Return the time that this process did not work; None before the first sample."""
        if not self.seconds:
            return None
        # A list that grew is as much dearer at once, though the best of the last few was still short.
        best = min(seconds * self.size / size for seconds, size in self.seconds)
        return max(0.0, best - min(self.own))


class LookCosts:
    """Chooses between one list and many single looks, and when to measure the other kind again.

    Times given to it are seconds of any steady clock. It outlives a feed: the next one on the same
    connection need not learn everything anew.
    """

    def __init__(self) -> None:
        self._list = _Samples()
        self._single = _Samples()
        self._ping = _Samples()
        self._last: Look | None = None
        self._spent = 0.0
        self._list_failures = 0
        self._list_rests_until = 0.0
        self._single_measured_at = float("-inf")
        self._ping_measured_at = float("-inf")

    # -- what was measured -----------------------------------------------------------------------------------

    def saw_list(self, seconds: float, own_seconds: float, size: int) -> None:
        """Take the time of a list: all of it, this process's own work in it, and the answer's bytes."""
        self._list.add(seconds, own_seconds, size)
        self._list_failures = 0
        self._spent = 0.0

    def saw_single(self, seconds: float, own_seconds: float, now: float) -> None:
        """Take the time of a single look that was made alone."""
        self._single.add(seconds, own_seconds)
        self._single_measured_at = now

    def saw_ping(self, seconds: float, own_seconds: float, now: float) -> None:
        """Take the time of an empty answer."""
        self._ping.add(seconds, own_seconds)
        self._ping_measured_at = now

    def ping_failed(self, now: float) -> None:
        """Do without it: some gateways let only the API's own paths through."""
        self._ping_measured_at = now + LIST_REST_SECONDS

    def list_failed(self, now: float) -> None:
        """A list did not succeed. Twice in a row, and single looks are used for a while."""
        self._list_failures += 1
        if self._list_failures >= 2:
            self._list_rests_until = now + LIST_REST_SECONDS

    # -- what follows ----------------------------------------------------------------------------------------

    @property
    def single_seconds(self) -> float:
        """What one single look costs the server."""
        return self._server_seconds(self._single, GUESSED_SINGLE_SECONDS)

    @property
    def list_seconds(self) -> float:
        """What one list costs the server."""
        return self._server_seconds(self._list, GUESSED_LIST_SECONDS)

    def choose(self, pipelines: int, now: float, *, may_explore: bool) -> Look:
        """Return the kind of look for this tick.

        :param pipelines: how many have to be looked at.
        :param now: the time.
        :param may_explore: whether a look of the dearer kind would do no harm at this moment.
        """
        if now < self._list_rests_until:
            return Look.SINGLE
        singles, listed = pipelines * self.single_seconds, self.list_seconds
        if self._last is Look.SINGLE:
            singles *= HYSTERESIS
        elif self._last is Look.LIST:
            listed *= HYSTERESIS
        chosen = Look.LIST if listed < singles else Look.SINGLE
        self._last = chosen
        if chosen is Look.SINGLE:
            self._spent += pipelines * self.single_seconds
            if may_explore and self._spent * EXPLORING_SHARE >= self.list_seconds:
                return Look.LIST
        return chosen

    def wants_single(self, now: float) -> bool:
        """Whether a single look should be measured, though lists are used."""
        return bool(self._list.seconds) and now - self._single_measured_at >= REFRESH_SECONDS

    def wants_ping(self, now: float) -> bool:
        """Whether the way there and back should be measured: only where both kinds are known it matters."""
        return (
            bool(self._list.seconds and self._single.seconds)
            and now - self._ping_measured_at >= REFRESH_SECONDS
        )

    def _server_seconds(self, samples: _Samples, guess: float) -> float:
        away = samples.away()
        if away is None:
            return guess
        way = max(0.0, (self._ping.away() or 0.0) - EMPTY_ANSWER_SECONDS)
        return max(LEAST_SECONDS, away - way)
