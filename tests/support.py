"""What several suites use: SQL that Arroyo accepts, and a handler that collects log lines."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable

ENDLESS = """\
CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO sink SELECT counter FROM impulse;"""

BOUNDED = ENDLESS.replace("event_rate = '10'", "event_rate = '100', message_count = '20'")
ONE_ENDS = """\
CREATE TABLE short WITH (connector = 'impulse', event_rate = '10', message_count = '5');
CREATE TABLE long WITH (connector = 'impulse', event_rate = '10');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO sink SELECT counter FROM short;
INSERT INTO sink SELECT counter FROM long;"""

NOT_TERMINAL = "Pipeline's jobs must be in a terminal state"
NOT_FITTING = "Failed to deserialize the JSON body into the target type"
"""The first words of two of Arroyo's refusals, with status 400 and 422."""

BROKEN = """\
CREATE TABLE input (n BIGINT) WITH
  (connector = 'single_file', path = '/nonexistent/input.json', format = 'json', type = 'source');
CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');
INSERT INTO sink SELECT n FROM input;"""


class KilledError(BaseException):
    """The end of a task's process: nothing that handles errors catches it."""


def kill_at(number: int) -> Callable[[object], None]:
    """Return a hook that ends the task's process at its n-th call."""
    calls = itertools.count(1)

    def hook(_: object) -> None:
        if next(calls) == number:
            raise KilledError

    return hook


class Turns:
    """Makes clients send their requests in a given order, one at a time; after that, in any order.

    :param order: whose turn it is; the turns of one that has ended are left out.
    :param limit_seconds: how long one waits for its turn at most.
    """

    def __init__(self, order: Iterable[object], *, limit_seconds: float = 20) -> None:
        self._order = list(order)
        self._limit_seconds = limit_seconds
        self._changed = threading.Condition()

    def wait_for(self, who: object) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._order or self._order[0] == who, self._limit_seconds)

    def pass_on(self, who: object) -> None:
        with self._changed:
            if self._order and self._order[0] == who:
                self._order.pop(0)
            self._changed.notify_all()

    def end(self, who: object) -> None:
        with self._changed:
            self._order = [one for one in self._order if one != who]
            self._changed.notify_all()


class Lines(logging.Handler):
    """Collects log lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))

    def only(self) -> tuple[str, str]:
        """Return the level and the text of the only line."""
        (line,) = self.lines
        return line

    def text(self, level: str | None = None) -> str:
        """Return the lines of a level, or all of them, as one text."""
        return "\n".join(text for name, text in self.lines if level in (None, name))
