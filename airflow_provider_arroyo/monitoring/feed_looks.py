"""The requests of a feed: its one client, what it asks, and how long that takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.call import Exchange
from airflow_provider_arroyo.arroyo.listing import newest_job
from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.arroyo.reading import list_in, object_of
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoError,
)
from airflow_provider_arroyo.monitoring.feed_cost import LookCosts
from airflow_provider_arroyo.monitoring.feed_waiters import Target
from airflow_provider_arroyo.monitoring.plan import LOOK_SECONDS, was_troubled

T = TypeVar("T")

_ALL_CONCERNED = (401, 429, 502, 503, 504)


class LookingClient(Protocol):
    """What a feed needs of a client."""

    async def exchange(self, call: api.Call[T], /, *, deadline: float | None = None) -> Exchange[T]:
        """Make a call, with the client's own retries, and return what it answers.

        :param deadline: when it has to be done, by ``time.monotonic``.
        """

    async def aclose(self) -> None:
        """Close its connections."""


Connect = Callable[[], Awaitable[LookingClient]]


class ConnectFailedError(Exception):
    """There is no client to look with; the cause is what ``connect`` raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Listing(NamedTuple):
    """What a list showed.

    :param items: the watched pipelines' jobs, as they came; None where the answer is the same, byte for byte,
        as the last one.
    :param size: bytes of the answer.
    """

    items: dict[Target, Mapping[str, Any]] | None
    size: int


class Seen(NamedTuple, Generic[T]):
    """What a look came to.

    :param value: what it showed.
    :param after_trouble: whether it had to be tried again for a while.
    """

    value: T
    after_trouble: bool


def concerns_all(error: ArroyoError) -> bool:
    """Whether a look's failure says that every other look would fail as well."""
    if isinstance(error, ArroyoApiError):
        return error.status in _ALL_CONCERNED
    return isinstance(error, ArroyoConnectionError)


class Looks:
    """Makes a feed's requests with one client, which is connected by the first of them.

    After a 401 or 403 it connects once more, in case the connection was given another key, before the error counts.

    :param connect: makes the client.
    :param costs: is told what each kind of look takes.
    :param own_seconds: how long this thread has worked, in seconds.
    """

    def __init__(
        self, connect: Connect, costs: LookCosts, own_seconds: Callable[[], float] = time.thread_time
    ) -> None:
        self._connect = connect
        self._costs = costs
        self._own_seconds = own_seconds
        self._client: LookingClient | None = None
        self._retired: list[LookingClient] = []
        self._is_renewed = False
        self._is_warm = False
        """Whether the client has its connection: the first look does not tell what looks cost."""
        self._connecting = asyncio.Lock()
        self._time = asyncio.get_running_loop().time
        self._list_body: bytes | None = None
        self.names_pipelines: bool | None = None
        """Whether jobs in the list carry their pipeline's id; None until a list with jobs was seen."""

    # -- the requests ----------------------------------------------------------------------------------------

    async def list_jobs(
        self, targets: Mapping[str, Target], by_job: Mapping[str, Target], *, reread: bool
    ) -> Seen[Listing]:
        """Look at all jobs at once.

        :param targets: what is watched, by pipeline id.
        :param by_job: the same by job id, for servers whose list does not name pipelines.
        :param reread: read the answer even if it is the same as the last one.
        """

        def read(answer: api.Answer) -> Listing:
            if answer.body == self._list_body and not reread:
                return Listing(None, len(answer.body))
            watched = _Watched(targets, by_job)
            jobs = list_in(object_of(answer, in_place_of=watched.take))
            if jobs:
                self.names_pipelines = watched.names_pipelines
            self._list_body = answer.body
            return Listing(watched.unmistakable(), len(answer.body))

        is_warm, began, own = self._is_warm, self._time(), self._own_seconds()
        call = api.list_jobs()
        seen = await self._call(api.Call(method=call.method, path=call.path, read=read, changes=call.changes))
        if is_warm:
            now = self._time()
            self._costs.saw_list(now, now - began, self._own_seconds() - own, seen.value.size)
        return seen

    async def pipeline_job(self, pipeline_id: str, *, is_alone: bool) -> Seen[Job | None]:
        """Look at one pipeline.

        :param is_alone: whether no other look is under way, so that its time tells what it costs.
        """
        is_warm, began, own = self._is_warm, self._time(), self._own_seconds()
        seen = await self._call(api.pipeline_jobs(pipeline_id))
        if is_alone and is_warm:
            now = self._time()
            self._costs.saw_single(now, now - began, self._own_seconds() - own)
        return Seen(newest_job(seen.value), seen.after_trouble)

    async def ping(self) -> None:
        """Measure the way to the server and back."""
        began, own = self._time(), self._own_seconds()
        try:
            await self._call(api.ping())
        except ArroyoError:
            # Whether it matters, the next look finds out.
            self._costs.ping_failed(self._time())
        else:
            now = self._time()
            self._costs.saw_ping(now, now - began, self._own_seconds() - own)

    # -- the client ------------------------------------------------------------------------------------------

    async def reconnect(self) -> None:
        """Take another client from now on, in case the connection leads elsewhere since; or keep the old one."""
        with suppress(ConnectFailedError):
            await self._in_place_of(self._client)

    async def close_retired(self) -> None:
        """Close clients that another one took the place of, once no look uses them."""
        while self._retired:
            await self._retired.pop().aclose()

    async def aclose(self) -> None:
        """Close every client."""
        client, self._client = self._client, None
        if client is not None:
            self._retired.append(client)
        await self.close_retired()

    async def _call(self, call: api.Call[T]) -> Seen[T]:
        client = await self._in_place_of(None)
        began = self._time()
        try:
            answer = await client.exchange(call, deadline=time.monotonic() + LOOK_SECONDS)
        except ArroyoAuthError as err:
            if err.status not in (401, 403) or (self._is_renewed and client is self._client):
                raise
            client = await self._in_place_of(client)
            self._is_renewed = True
            answer = await client.exchange(call, deadline=time.monotonic() + LOOK_SECONDS)
        self._is_renewed, self._is_warm = False, True
        return Seen(answer.value, was_troubled(answer.retries, self._time() - began))

    async def _in_place_of(self, old: LookingClient | None) -> LookingClient:
        """Return the client that follows the old one, made by whichever look needs it first."""
        async with self._connecting:
            if self._client is None or self._client is old:
                try:
                    client = await self._connect()
                except Exception as err:  # Airflow's look-up may raise anything; the waiters get it
                    raise ConnectFailedError(err) from err
                if self._client is not None:
                    self._retired.append(self._client)
                self._client, self._is_warm = client, False
            return self._client


class _Watched:
    """Picks the watched pipelines' jobs out of a list while it is read, so that the others take no memory.

    :param targets: what is watched, by pipeline id.
    :param by_job: the same by job id, for servers whose list does not name pipelines.
    """

    def __init__(self, targets: Mapping[str, Target], by_job: Mapping[str, Target]) -> None:
        self._targets = targets
        self._by_job = by_job
        self._found: dict[Target, Mapping[str, Any]] = {}
        self._several: set[Target] = set()
        self.names_pipelines = False

    def take(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """Keep an object if it is a watched job; return it if it is no job, since it may be part of one."""
        if "run_id" not in item or "state" not in item:
            return item
        pipeline_id = item.get("pipeline_id")
        if pipeline_id is None:
            target = self._by_job.get(item.get("id", ""))
        else:
            self.names_pipelines = True
            target = self._targets.get(pipeline_id)
        if target is not None:
            if target in self._found:
                self._several.add(target)
            self._found[target] = item
        return None

    def unmistakable(self) -> dict[Target, Mapping[str, Any]]:
        """Return the jobs, without those of which a pipeline has several: a look at it tells the newest."""
        return {target: item for target, item in self._found.items() if target not in self._several}
