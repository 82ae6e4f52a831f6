"""What a pipeline should be: checked before any call, and told apart by its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from airflow_provider_arroyo.arroyo.models import text_of

MIN_CHECKPOINT_INTERVAL = timedelta(seconds=1)
MAX_CHECKPOINT_INTERVAL = timedelta(hours=24)


def check_text(value: Any, argument: str) -> str:
    """Return a text that is not empty.

    :raises ValueError: on another type, or on nothing but white space.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{argument} must be a text that is not empty, got {value!r}")
    return value


def check_parallelism(value: Any, argument: str = "parallelism") -> int:
    """Return a parallelism: 1 or more. A templated value may come as digits.

    Arroyo accepts 0 and then stays in Scheduling for ever.

    :raises ValueError: on anything else.
    """
    number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value) else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{argument} must be a whole number, 1 or more, got {value!r}")
    return number


def check_checkpoint_interval(value: Any, argument: str = "checkpoint_interval") -> timedelta:
    """Return a checkpoint interval within Arroyo's limits, 1 second to 24 hours.

    Arroyo refuses others only after it has made half of the pipeline.

    :raises ValueError: on another type or outside the limits.
    """
    if not isinstance(value, timedelta) or not MIN_CHECKPOINT_INTERVAL <= value <= MAX_CHECKPOINT_INTERVAL:
        raise ValueError(f"{argument} must be a timedelta from 1 second to 24 hours, got {value!r}")
    return value


def check_text_map(value: Any, argument: str) -> dict[str, str]:
    """Return a mapping of texts to texts.

    :raises ValueError: on anything else.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{argument} must be a mapping of texts to texts, got {type(value).__name__}")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise ValueError(f"{argument} must map texts to texts, got {key!r}: {type(item).__name__}")
    return dict(value)


def check_object(value: Any, argument: str) -> dict[str, Any]:
    """Return a mapping that can be written as a JSON object.

    :raises ValueError: on anything else.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{argument} must be a mapping with texts for keys, got {type(value).__name__}")
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as err:
        raise ValueError(f"{argument} must hold only what JSON can hold: {err}") from err
    return dict(value)


@dataclass(frozen=True, slots=True)
class Udf:
    """A user-defined function that travels with a pipeline.

    :param definition: its source.
    :param language: ``rust`` or ``python``; None leaves it to the server, which takes it for Rust.
    """

    definition: str
    language: str | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a UDF from an answer."""
        return cls(text_of(data, "definition"), data.get("language"))

    def to_api(self) -> dict[str, str]:
        """Return the JSON object for a request."""
        body = {"definition": self.definition}
        if self.language is not None:
            body["language"] = self.language
        return body


def as_udfs(items: Iterable[Any]) -> tuple[Udf, ...]:
    """Return UDFs from what users write: a :class:`Udf`, its source, or ``{"definition", "language"}``.

    :raises ValueError: on anything else, or on one without a source.
    """
    if isinstance(items, str | bytes | Mapping | Udf) or not isinstance(items, Iterable):
        raise ValueError(f"udfs must be a list of UDFs, got {type(items).__name__}")
    udfs = []
    for position, item in enumerate(items):
        where = f"udfs[{position}]"
        if isinstance(item, Udf):
            udf = item
        elif isinstance(item, str):
            udf = Udf(item)
        elif isinstance(item, Mapping) and set(item) <= {"definition", "language"}:
            udf = Udf(item.get("definition", ""), item.get("language"))
        else:
            raise ValueError(f"{where} must be a source, a Udf or a mapping with definition and language")
        check_text(udf.definition, f"{where}.definition")
        if udf.language not in (None, "rust", "python"):
            raise ValueError(f"{where}.language must be 'rust' or 'python', got {udf.language!r}")
        udfs.append(udf)
    return tuple(udfs)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """What a pipeline should be. What may hold secrets stays out of what is logged of it.

    :param name: shown in Arroyo's console; names need not be unique.
    :param query: the SQL.
    :param parallelism: subtasks for each operator, 1 or more, default 1.
    :param checkpoint_interval: 1 second to 24 hours; None leaves it to the server (10 seconds).
    :param udfs: functions that the SQL uses.
    :param tags: labels; kept by Arroyo 0.16 and later.
    :param env_vars: environment of the workers; Arroyo 0.16 and later.
    :param scheduler_config: passed to the scheduler as it is; Arroyo 0.16 and later.
    :raises ValueError: names the argument and what is allowed.
    """

    name: str
    query: str = field(repr=False)
    parallelism: int = 1
    checkpoint_interval: timedelta | None = None
    udfs: tuple[Udf, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict, repr=False)
    scheduler_config: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_text(self.name, "name")
        check_text(self.query, "query")
        # Digits are taken too, and the API takes only a number.
        object.__setattr__(self, "parallelism", check_parallelism(self.parallelism))
        if self.checkpoint_interval is not None:
            check_checkpoint_interval(self.checkpoint_interval)
        check_text_map(self.tags, "tags")
        check_text_map(self.env_vars, "env_vars")
        if self.scheduler_config is not None:
            check_object(self.scheduler_config, "scheduler_config")
        object.__setattr__(self, "udfs", as_udfs(self.udfs))

    @property
    def fingerprint(self) -> str:
        """What no call can change once the pipeline is made (name, SQL, UDFs), as 64 hexadecimal digits."""
        what = {
            "name": self.name,
            "query": self.query,
            "udfs": [udf.to_api() for udf in self.udfs],
        }
        text = json.dumps(what, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
