"""Polls single pipelines, a few at a time; polls without a response delay only each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.polling.joblist import MAX_SINGLE_POLLS
from airflow_provider_arroyo.polling.poll import single_try
from airflow_provider_arroyo.polling.threads import Run
from airflow_provider_arroyo.polling.waiters import Target

SLOW_SECONDS = 1.0
"""A poll without a response for this many seconds gives its slot to another one."""

_PROBES = 3


class SinglePolls:
    """Sends polls in threads.

    :param run: runs a blocking function in a thread.
    :param monotonic: a monotonic clock in seconds.
    """

    def __init__(self, run: Run, monotonic: Callable[[], float]) -> None:
        self._run = run
        self._monotonic = monotonic
        self._slots = asyncio.Semaphore(MAX_SINGLE_POLLS)
        self._slots_for_hanging = asyncio.Semaphore(MAX_SINGLE_POLLS)
        """For pipelines whose last poll got no response."""
        self._overdue = 0
        """Polls in progress that have had no response for :data:`SLOW_SECONDS`."""

    async def get_job(self, client: ArroyoClient, target: Target) -> Job | None:
        """Poll a pipeline as soon as there is a slot for it.

        :param client: sends the poll, once.
        :param target: the pipeline; it records when the poll was sent, and whether it got no response.
        :raises ArroyoError: if the poll failed.
        """
        async with self._slots_for_hanging if target.is_hanging else self._slots:
            # Each poll without a response keeps a thread; if there are many, they may do so for a few seconds only.
            limit = target.tolerance_seconds if self._overdue < MAX_SINGLE_POLLS else 0.0
            send = partial(single_try(client, limit).get_job, target.pipeline_id)
            target.sent_at = self._monotonic()
            target.polls += 1
            poll: asyncio.Future[Job | None] = asyncio.ensure_future(self._run(send))
            try:
                await asyncio.wait({poll}, timeout=SLOW_SECONDS)
                if not poll.done():
                    self._overdue += 1
                    poll.add_done_callback(self._no_longer_overdue)
                if target.is_hanging:
                    await asyncio.wait({poll})
            except asyncio.CancelledError:
                poll.cancel()
                raise
        # Another poll has its slot.
        try:
            job = await poll
        except ArroyoError:
            target.is_hanging = self._monotonic() - target.sent_at >= SLOW_SECONDS
            raise
        target.is_hanging = False
        return job

    def _no_longer_overdue(self, poll: asyncio.Future[Job | None]) -> None:
        self._overdue -= 1

    async def succeed(self, client: ArroyoClient, pipeline_ids: Iterable[str]) -> bool:
        """Return whether a poll of one of these pipelines succeeds within a short time.

        :param client: sends the polls, each once.
        :param pipeline_ids: a few of these are polled, since some may be the ones without a response.
        """
        ids = list(pipeline_ids)
        probes = {
            asyncio.ensure_future(self._run(partial(single_try(client, 0.0).get_job, name)))
            for name in random.sample(ids, min(_PROBES, len(ids)))
        }
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                for probe in asyncio.as_completed(probes):
                    with suppress(ArroyoError):
                        with suppress(ArroyoNotFoundError):  # Arroyo itself has responded
                            await probe
                        return True
        except TimeoutError:
            pass
        finally:
            for one in probes:
                one.cancel()
        return False
