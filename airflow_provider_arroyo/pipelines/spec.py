"""The specification of a pipeline, checked before any request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.client.checks import (
    check_checkpoint_interval,
    check_json_object,
    check_parallelism,
    check_sql,
    check_string_map,
    check_text,
)
from airflow_provider_arroyo.client.names import check_name
from airflow_provider_arroyo.client.udf import Udf, as_udfs


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """The specification of a pipeline. Fields that may hold secrets are not part of its ``repr``.

    :param name: shown in Arroyo's console; names need not be unique.
    :param query: the SQL.
    :param parallelism: subtasks of each operator, 1 or more, default 1.
    :param checkpoint_interval: 1 second to 24 hours; default None leaves it to the server (10 seconds).
    :param udfs: UDFs that the SQL uses, default none.
    :param tags: labels, default none; stored by Arroyo 0.16 and later.
    :param env_vars: environment of the workers; Arroyo 0.16 and later; default None leaves it to the server, and an
        empty one removes what the server has.
    :param scheduler_config: passed to the scheduler unchanged; Arroyo 0.16 and later; None and empty as above.
    :param state_url: where its checkpoints are stored; Arroyo 0.16 and later; default None leaves it to the server.
    :raises ValueError: if an argument is invalid; names it and the allowed values.
    """

    name: str
    query: str = field(repr=False)
    parallelism: int = 1
    checkpoint_interval: timedelta | None = None
    udfs: tuple[Udf, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    env_vars: Mapping[str, str] | None = field(default=None, repr=False)
    scheduler_config: Mapping[str, Any] | None = field(default=None, repr=False)
    state_url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        object.__setattr__(self, "query", check_sql(self.query))
        # Rendered templates may be digits, and durations seconds; the API needs an integer and a timedelta.
        object.__setattr__(self, "parallelism", check_parallelism(self.parallelism))
        if self.checkpoint_interval is not None:
            interval = check_checkpoint_interval(self.checkpoint_interval)
            object.__setattr__(self, "checkpoint_interval", interval)
        check_string_map(self.tags, "tags")
        if self.env_vars is not None:
            check_string_map(self.env_vars, "env_vars")
        if self.scheduler_config is not None:
            config = check_json_object(self.scheduler_config, "scheduler_config")
            object.__setattr__(self, "scheduler_config", config)
        if self.state_url is not None:
            check_text(self.state_url, "state_url")
        object.__setattr__(self, "udfs", as_udfs(self.udfs))

    @property
    def only_on_0_16(self) -> tuple[str, ...]:
        """The arguments that were given and that Arroyo 0.15 would ignore, by name."""
        names = ("env_vars", "scheduler_config", "state_url")
        return tuple(name for name in names if getattr(self, name))

    @property
    def settings(self) -> dict[str, Any]:
        """What can be changed without replacing the pipeline, by argument; None is left to the server."""
        return {
            "parallelism": self.parallelism,
            "checkpoint_interval": self.checkpoint_interval,
            "env_vars": self.env_vars,
            "scheduler_config": self.scheduler_config,
        }

    def to_request(self, **instead: Any) -> dict[str, Any]:
        """Return the arguments of ``create_pipeline`` and ``put_pipeline``.

        :param instead: values to send instead of the spec's, such as a ``query`` with an ownership label.
        """
        return {one.name: getattr(self, one.name) for one in fields(self)} | instead
