"""What several suites use: SQL that Arroyo takes, and a handler that keeps what was logged."""

from __future__ import annotations

import logging

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
"""How two of Arroyo's own refusals begin, with status 400 and 422."""

BROKEN = """\
CREATE TABLE input (n BIGINT) WITH
  (connector = 'single_file', path = '/nonexistent/input.json', format = 'json', type = 'source');
CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');
INSERT INTO sink SELECT n FROM input;"""


class Lines(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))

    def only(self) -> tuple[str, str]:
        """Return the level and the text of the one line that there is."""
        (line,) = self.lines
        return line

    def text(self, level: str | None = None) -> str:
        """Return the lines of a level, or all of them, as one text."""
        return "\n".join(text for name, text in self.lines if level in (None, name))
