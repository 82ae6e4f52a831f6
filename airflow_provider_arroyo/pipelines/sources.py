"""Tells from where the sources of a new pipeline will read, by their options, since it has no state to continue from.

Reads ``CREATE TABLE`` statements as text. Sources that the SQL itself does not declare are unknown here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from airflow_provider_arroyo.client.sql_secrets import Token, redact_sql, tokens_of
from airflow_provider_arroyo.text import shorten

_OFFSETS = {
    "earliest": "from the earliest record",
    "latest": "from the end: existing records are not read",
}
_BEGINNINGS: Mapping[str, str] = {
    "impulse": "from counter 0",
    "nexmark": "from its first event",
    "single_file": "the whole file again",
    "filesystem": "all files again",
    "nats": "as consumer.* and the server say",
    "sse": "from now on",
    "websocket": "from now on",
    "polling_http": "from now on",
    "mqtt": "from now on",
}
"""Where connectors without an option for it begin. Source: Arroyo's connectors (0.16)."""
_ONLY_SOURCES = ("impulse", "nexmark", "sse", "websocket", "polling_http")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """A source that some SQL declares.

    :param table: its name.
    :param connector: its connector.
    :param options: its options, by name in lower case.
    """

    table: str
    connector: str
    options: Mapping[str, str]

    @property
    def reads_from(self) -> str:
        """From where it reads if there is no state to continue from."""
        offset = self.options.get("source.offset", "").lower()
        match self.connector:
            case "kafka" | "confluent" if offset == "group":
                return self._of_group()
            case "kafka" | "confluent" | "kinesis" | "fluvio":
                where = _OFFSETS.get(offset or "latest", f"as source.offset = {offset!r} says")
                return where if offset else f"{where} (the default of source.offset)"
            case "rabbitmq":
                return f"from {offset!r}" if offset else "from 'last' (the default of source.offset)"
            case _:
                return _BEGINNINGS.get(self.connector, "as its connector says")

    def _of_group(self) -> str:
        group = self.options.get("source.group_id")
        if group:
            return f"from the offsets that consumer group {shorten(group, 80)!r} has committed, if it has"
        # Without an explicit id, the group is named after the job, which is new.
        return "from the end: its consumer group is new, since source.group_id is not set"

    def __str__(self) -> str:
        return f"{self.table} ({self.connector}) reads {self.reads_from}"


def sources_of(query: str) -> tuple[SourceTable, ...]:
    """Return the sources that some SQL declares, in order; empty if that cannot be determined."""
    found = []
    for table, options in _tables(query):
        connector = options.get("connector", "").lower()
        kind = options.get("type", "source" if connector in _ONLY_SOURCES else "").lower()
        if connector and kind == "source":
            found.append(SourceTable(table=table, connector=connector, options=options))
    return tuple(found)


def _tables(query: str) -> Iterator[tuple[str, dict[str, str]]]:
    # Values of secret options are not needed here, and could end up in a message.
    tokens = [one for one in tokens_of(redact_sql(query)) if one.kind not in ("space", "comment")]
    words = [one.text.upper() if one.kind == "name" else one.text for one in tokens]
    at = 0
    while at < len(tokens):
        if words[at : at + 2] != ["CREATE", "TABLE"]:
            at += 1
            continue
        at += 2
        if words[at : at + 3] == ["IF", "NOT", "EXISTS"]:
            at += 3
        name = tokens[at].text.strip('"') if at < len(tokens) else ""
        while at < len(tokens) and words[at] not in (";", "WITH", "AS", "CREATE"):
            at += 1
        if words[at : at + 2] == ["WITH", "("]:
            options, at = _options(tokens, at + 2)
            yield name, options


def _options(tokens: list[Token], at: int) -> tuple[dict[str, str], int]:
    options: dict[str, str] = {}
    while at < len(tokens) and tokens[at].text not in (")", ";"):
        if at + 2 < len(tokens) and tokens[at + 1].text == "=":
            key, value = tokens[at].text, tokens[at + 2].text
            options[key.strip("'\"").lower()] = value.removeprefix("'").removesuffix("'").replace("''", "'")
            at += 3
        else:
            at += 1
    return options, at
