"""Jobs and pipelines as Arroyo's API describes them, for servers 0.15 and 0.16 alike.

Every model is frozen and read by ``from_api``. Unknown fields are ignored. A response is unreadable only if a field
without a default, or a strict or required one, is invalid: fields that identify something, or that decisions depend
on. Times are microseconds since the epoch, as on the wire.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from airflow_provider_arroyo.client.checks import check_id, check_text
from airflow_provider_arroyo.client.enums import TERMINAL_STATES, StopMode
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.client.wire import ApiModel, from_api, wire
from airflow_provider_arroyo.text import pipeline_label, shorten

_MAX_WORD = 100
"""Maximum length of a state and of a failure's domain, in characters."""


@dataclass(frozen=True, slots=True)
class FailureReason(ApiModel):
    """Why a job failed, in Arroyo's words.

    :param error: the text, without secrets; 0.15 calls it ``failure_message``.
    :param domain: whose fault it is, ``user``, ``external`` or ``internal``; None on 0.15.
    """

    error: str = ""
    domain: str | None = None

    @property
    def line(self) -> str:
        """The reason as shown in errors: ``Arroyo's reason (domain: user): no such file``."""
        domain = f" (domain: {self.domain})" if self.domain else ""
        return f"Arroyo's reason{domain}: {shorten(self.error, 1000)}"

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a reason. Arroyo's text may quote the SQL, with a password in an address, or be megabytes long."""
        # The triggerer imports the models on its event loop; masking is imported only after a failure.
        from airflow_provider_arroyo.client.sql_secrets import readable

        reason = from_api(cls, data)
        is_word = (
            reason.domain is not None and len(reason.domain) <= _MAX_WORD and reason.domain.isprintable()
        )
        return replace(reason, error=readable(reason.error), domain=reason.domain if is_word else None)


@dataclass(frozen=True, slots=True)
class Job(ApiModel):
    """One job: a pipeline's execution, running or ended.

    :param id: the job's id; a restart without state in worker mode replaces it.
    :param state: named as on the wire; compares equal to a
        :class:`~airflow_provider_arroyo.client.enums.JobState`.
    :param run_id: grows each time the job is scheduled; 0 before the first time.
    :param running_desired: False after a stop request, whatever the state is; None if it is missing or unreadable,
        which proves neither.
    :param created_at_micros: 0 if it is unreadable.
    :param pipeline_id: None on 0.15, which does not send it.
    :param start_time_micros: when it was created or resumed; a restart does not renew it.
    :param finish_time_micros: when it ended; None if it has not.
    :param tasks: number of its tasks; None if unknown.
    :param failure: why it failed; None if it has not.
    :param scheduler_config: its scheduler configuration (0.16); empty if unknown.
    :param env_vars: the environment of its workers (0.16); empty if unknown.
    """

    id: str
    state: str
    run_id: int
    running_desired: bool | None = True
    created_at_micros: int = wire("created_at", default=0)
    pipeline_id: str | None = wire(is_strict=True, default=None)
    start_time_micros: int | None = wire("start_time", default=None)
    finish_time_micros: int | None = wire("finish_time", default=None)
    tasks: int | None = None
    failure: FailureReason | None = wire("failure_reason", default=None)
    scheduler_config: Mapping[str, Any] = wire(is_secret=True, default_factory=dict)
    env_vars: Mapping[str, str] = wire(is_secret=True, default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether the state is Stopped, Finished or Failed."""
        return self.state in TERMINAL_STATES

    @property
    def is_from_0_15(self) -> bool:
        """Whether a server before 0.16 sent it; those omit the pipeline's id."""
        return self.pipeline_id is None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a job; on 0.15, its failure is in ``failure_message``."""
        job = from_api(cls, data)
        check_id(job.id, "id")
        check_text(job.state, "state")
        if len(job.state) > _MAX_WORD or not job.state.isprintable():
            # A newer server may have more states. A state is a short name, and logs show it unchanged.
            raise ValueError("state is not the name of a state")
        if not isinstance(data.get("running_desired"), bool):
            job = replace(job, running_desired=None)
        message = data.get("failure_message")
        if message and isinstance(message, str):
            job = replace(job, failure=FailureReason.from_api({"error": message}))
        if job.failure is not None and job.env_vars:
            from airflow_provider_arroyo.client.body_secrets import redact_variables

            # Masked here, since the environment is not passed on to other processes.
            shown = redact_variables(job.failure.error, tuple(job.env_vars.items()))
            job = replace(job, failure=replace(job.failure, error=shown))
        return job


@dataclass(frozen=True, slots=True)
class PipelineNode(ApiModel):
    """One operator of a pipeline's graph."""

    node_id: int
    operator: str = ""
    description: str = ""
    parallelism: int = wire(is_required=True, default=0)

    @property
    def label(self) -> str:
        """What it does, as it may be shown: the address that it reads or writes may hold a secret."""
        from airflow_provider_arroyo.client.text_secrets import redact_values

        return redact_values(self.description or self.operator, ())


@dataclass(frozen=True, slots=True)
class PipelineEdge(ApiModel):
    """One edge of a pipeline's graph."""

    src_id: int
    dest_id: int
    key_type: str = ""
    value_type: str = ""
    edge_type: str = ""


@dataclass(frozen=True, slots=True)
class PipelineGraph(ApiModel):
    """The graph that Arroyo planned from the SQL; without nodes if any part of it is unreadable."""

    nodes: tuple[PipelineNode, ...] = wire(is_required=True, default=())
    edges: tuple[PipelineEdge, ...] = wire(is_required=True, default=())

    def redacted(self, secrets: Collection[str]) -> Self:
        """Return the graph as it may be shown, see :attr:`PipelineNode.label`.

        :param secrets: the SQL's secret values, from :func:`.secret_values`.
        """
        from airflow_provider_arroyo.client.text_secrets import redact_values

        nodes = []
        for node in self.nodes:
            operator, description = (redact_values(one, secrets) for one in (node.operator, node.description))
            nodes.append(replace(node, operator=operator, description=description))
        return replace(self, nodes=tuple(nodes))

    @property
    def parallelism(self) -> int | None:
        """The highest parallelism of its nodes; None without nodes."""
        return max((node.parallelism for node in self.nodes), default=None)

    @property
    def tasks(self) -> int | None:
        """The number of tasks that a run with this parallelism has; None without nodes."""
        return sum(node.parallelism for node in self.nodes) or None

    @property
    def sources(self) -> frozenset[int]:
        """The ids of its first nodes."""
        return frozenset(node.node_id for node in self.nodes) - {edge.dest_id for edge in self.edges}

    @property
    def sinks(self) -> frozenset[int]:
        """The ids of its last nodes."""
        return frozenset(node.node_id for node in self.nodes) - {edge.src_id for edge in self.edges}


@dataclass(frozen=True, slots=True)
class Pipeline(ApiModel):
    """A pipeline: its SQL, its requested settings and its graph.

    :param id: its id.
    :param name: its name; need not be unique.
    :param query: the SQL.
    :param checkpoint_interval_micros: time between checkpoints; None if unknown.
    :param stop: the last stop request, named as on the wire; see
        :class:`~airflow_provider_arroyo.client.enums.StopMode`.
    :param created_at_micros: when it was created.
    :param action: the action that Arroyo's console offers for it; None if it offers none.
    :param action_text: the label of that action.
    :param action_in_progress: whether such an action is in progress.
    :param preview: whether it is a preview.
    :param graph: its graph.
    :param udfs: its UDFs.
    :param tags: the caller's labels; empty on 0.15.
    :param state_url: where its checkpoints are stored (0.16); None if the server chooses.
    """

    id: str
    name: str
    query: str = wire(is_secret=True)
    checkpoint_interval_micros: int | None = None
    stop: str = wire(is_strict=True, default=StopMode.NONE)
    created_at_micros: int = wire("created_at", is_required=True, default=0)
    action: str | None = None
    action_text: str = ""
    action_in_progress: bool = wire(is_strict=True, default=False)
    preview: bool = wire(is_strict=True, default=False)
    graph: PipelineGraph = field(default_factory=PipelineGraph)
    udfs: tuple[Udf, ...] = wire(is_required=True, default=())
    tags: Mapping[str, str] = wire(is_strict=True, default_factory=dict)
    state_url: str | None = wire(is_secret=True, is_strict=True, may_be_null=True, default=None)

    @property
    def label(self) -> str:
        """Its name and id to begin a sentence with: ``Pipeline 'orders' (pl_1)``."""
        return pipeline_label(self.name, self.id)

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a pipeline."""
        pipeline = from_api(cls, data)
        check_id(pipeline.id, "id")
        return pipeline
