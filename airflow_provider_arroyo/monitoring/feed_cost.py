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
from typing import NamedTuple

SAMPLES = 8
"""How many looks of a kind are remembered at most. The best of them counts."""

ENOUGH_SAMPLES = 3
"""How many it takes to tell what a look costs from what else went on."""

YOUNG_SECONDS = 10.0
"""For how long they count: what a server was able to do once must not count for ever."""

WAY_YOUNG_SECONDS = 900.0
"""For how long the measurements of the way count, which does not change with what the server has to do."""

EMPTY_ANSWER_SECONDS = 0.0003
"""What even an empty answer costs a server; not part of the way there and back."""

LEAST_SECONDS = 0.0001
"""No look costs less; keeps errors of measurement from making one free."""

GUESSED_SINGLE_SECONDS = 0.0008
GUESSED_LIST = 12.0
"""What a list costs, in single looks, before one was measured: as seen on a real server with 500 jobs."""

HYSTERESIS = 0.9
"""The other kind must be cheaper by this factor before a feed changes over."""

EXPLORING_SHARE = 0.05
"""Which share of what lists could have saved at the very most may go into finding out what they cost.

For the first list it is that for each pipeline, since the more there are, the less one list can make it worse.
"""

UNSURE_EXPLORING_SHARE = 0.25
"""The same, after the first list until lists were measured often enough to tell their cost from a hiccup."""

UNSURE_FACTOR = 10.0
"""A list that seems dearer by more than that is no hiccup."""

CHEAPEST_LIST = 0.75
"""What a list costs at the very least, in single looks: that of a server with a handful of jobs."""

REFRESH_SECONDS = 60.0
"""How often the cheap things are measured again: a single look, while lists are used, and the way."""

REST_SECONDS = 300.0
"""For how long a kind of request is left alone that failed, while others did not."""


class Look(Enum):
    """The two kinds of look."""

    LIST = "list"
    SINGLE = "single"


class _Sample(NamedTuple):
    at: float
    seconds: float
    own_seconds: float
    size: int


class _Samples:
    """The last few times of one kind of request."""

    __slots__ = ("_last", "_young_seconds")

    def __init__(self, young_seconds: float = YOUNG_SECONDS) -> None:
        self._last: deque[_Sample] = deque(maxlen=SAMPLES)
        self._young_seconds = young_seconds

    def __len__(self) -> int:
        return len(self._last)

    def clear(self) -> None:
        self._last.clear()

    def add(self, at: float, seconds: float, own_seconds: float, size: int = 1) -> None:
        while self._last and at - self._last[0].at > self._young_seconds:
            self._last.popleft()
        self._last.append(_Sample(at, seconds, own_seconds, max(1, size)))

    def age(self, now: float) -> float:
        return now - self._last[-1].at if self._last else float("inf")

    def away(self) -> float | None:
        """Return the time that this process did not work; None before the first sample."""
        if not self._last:
            return None
        # A list that grew is as much dearer at once, though the best of the last few was still short.
        size = self._last[-1].size
        best = min(sample.seconds * size / sample.size for sample in self._last)
        return max(0.0, best - min(sample.own_seconds for sample in self._last))


class LookCosts:
    """Chooses between one list and many single looks, and when to measure the other kind again.

    Times given to it are seconds of any steady clock. It outlives a feed: the next one on the same
    connection need not learn everything anew.
    """

    def __init__(self) -> None:
        self._list = _Samples()
        self._single = _Samples()
        self._ping = _Samples(WAY_YOUNG_SECONDS)
        self._in_use: Look | None = None
        self._doubts_single = False
        self._missed = 0.0
        self._lists_seen = 0
        self._list_failures = 0
        self._list_rests_until = float("-inf")
        self._ping_rests_until = float("-inf")

    # -- what was measured -----------------------------------------------------------------------------------

    def saw_list(self, now: float, seconds: float, own_seconds: float, size: int) -> None:
        """Take the time of a list: all of it, this process's own work in it, and the answer's bytes."""
        self._list.add(now, seconds, own_seconds, size)
        self._lists_seen += 1
        self._list_failures = 0
        self._missed = 0.0

    def saw_single(self, now: float, seconds: float, own_seconds: float) -> None:
        """Take the time of a single look that was made alone."""
        self._single.add(now, seconds, own_seconds)

    def saw_ping(self, now: float, seconds: float, own_seconds: float) -> None:
        """Take the time of an empty answer."""
        self._ping.add(now, seconds, own_seconds)

    def ping_failed(self, now: float) -> None:
        """Do without it for a while: some gateways let only the API's own paths through."""
        self._ping_rests_until = now + REST_SECONDS

    def list_failed(self, now: float) -> None:
        """A list did not succeed. Twice in a row, and single looks are used for a while."""
        self._list_failures += 1
        if self._list_failures >= 2:
            self._list_rests_until = now + REST_SECONDS

    # -- what follows ----------------------------------------------------------------------------------------

    @property
    def single_seconds(self) -> float:
        """What one single look costs the server."""
        return self._server_seconds(self._single, GUESSED_SINGLE_SECONDS)

    @property
    def list_seconds(self) -> float:
        """What one list costs the server."""
        return self._server_seconds(self._list, GUESSED_LIST * self.single_seconds)

    def choose(self, pipelines: int, now: float, *, is_regular: bool, may_explore: bool) -> Look:
        """Return the kind of look for this round.

        :param pipelines: how many have to be looked at.
        :param now: the time.
        :param is_regular: whether it is a round like the last one; else, as for those who just came, what is
            cheaper for them alone is chosen.
        :param may_explore: whether a look of the dearer kind would do no harm at this moment.
        """
        if now < self._list_rests_until:
            return Look.SINGLE
        singles, listed = pipelines * self.single_seconds, self.list_seconds
        if not is_regular:
            return Look.LIST if listed < singles else Look.SINGLE
        if self._doubts_single and len(self._single) < ENOUGH_SAMPLES:
            return Look.LIST
        is_sure, self._doubts_single = self._doubts_single, False
        if self._in_use is Look.SINGLE:
            singles *= HYSTERESIS
        elif self._in_use is Look.LIST:
            listed *= HYSTERESIS
        chosen = Look.LIST if listed < singles else Look.SINGLE
        if chosen is Look.SINGLE and self._in_use is Look.LIST and not is_sure:
            # Lists show by themselves when they become dear. What single looks cost now must be measured
            # first, since a thousand of them are no small mistake.
            self._doubts_single = True
            self._single.clear()
            return Look.LIST
        self._in_use = chosen
        if chosen is Look.SINGLE:
            self._missed += (pipelines - CHEAPEST_LIST) * self.single_seconds
            share = EXPLORING_SHARE
            if not self._lists_seen:
                share = min(1.0, EXPLORING_SHARE * pipelines)
            elif self._lists_seen < ENOUGH_SAMPLES and listed < UNSURE_FACTOR * singles:
                share = UNSURE_EXPLORING_SHARE
            if may_explore and self._missed * share >= self.list_seconds:
                return Look.LIST
        return chosen

    def wants_single(self, now: float) -> bool:
        """Whether a single look should be measured, though lists are used."""
        if not self._list:
            return False
        age = self._single.age(now)
        has_begun = len(self._single) < ENOUGH_SAMPLES and age <= YOUNG_SECONDS
        return self._doubts_single or has_begun or age >= REFRESH_SECONDS

    def wants_ping(self, now: float) -> bool:
        """Whether the way there and back should be measured, without which a look seems as dear as it is far."""
        return (
            bool(self._list or self._single)
            and self._ping.age(now) >= REFRESH_SECONDS
            and now >= self._ping_rests_until
        )

    def _server_seconds(self, samples: _Samples, guess: float) -> float:
        away = samples.away()
        if away is None:
            return guess
        way = max(0.0, (self._ping.away() or 0.0) - EMPTY_ANSWER_SECONDS)
        return max(LEAST_SECONDS, away - way)
