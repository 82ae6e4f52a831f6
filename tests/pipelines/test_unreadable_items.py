"""One pipeline that cannot be read, among others: who needs it fails and names it, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.evidence import gather
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoUnreadableItemError
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.openlineage.facts import _tables
from airflow_provider_arroyo.pipelines.ensure import ensure_connection_profile, ensure_udf
from airflow_provider_arroyo.pipelines.names import resolve_name
from airflow_provider_arroyo.pipelines.ownership import Namespace
from airflow_provider_arroyo.pipelines.prune import prune
from airflow_provider_arroyo.pipelines.stopping import StopProof
from tests.adapters import BROKEN_PIPELINE, NAMELESS, DamagingAdapter
from tests.pipelines.bench import OWNER, Bench
from tests.pipelines.bench import SPEC as SUBMITTED
from tests.pipelines.deploy_bench import SPEC, DeployBench, open_deploy_bench

OTHER = replace(SPEC, name="other")


def damaged(
    bench: Bench, fields: dict[str, Any], matches: str = '"other"', path: str = "/pipelines"
) -> ArroyoClient:
    """Return a client to which a list has a damaged item."""
    client = ArroyoClient(
        ClientSettings(base_url=bench.sandbox.url),
        log=bench.log,
        sleep=bench.sandbox.advance,
        clock=bench.now,
    )
    DamagingAdapter(client, {path: fields}, matches)
    return client


def submit_again(bench: DeployBench, client: ArroyoClient) -> object:
    return bench.submit(SUBMITTED, owner=OWNER, try_number=2, client=client)


def deploy(bench: DeployBench, client: ArroyoClient) -> object:
    return bench.deploy(SPEC, client=client)


def prune_all(bench: DeployBench, client: ArroyoClient) -> object:
    return prune(client, group="default", namespace=Namespace(), keep=["x"], max_deletions=10)


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize(
    "act, fields",
    [
        (submit_again, BROKEN_PIPELINE),
        (submit_again, NAMELESS),
        (deploy, NAMELESS),
        (prune_all, BROKEN_PIPELINE),
        (prune_all, NAMELESS),
    ],
)
def test_nothing_is_changed_where_the_unreadable_pipeline_may_be_the_one(
    act: Callable[[DeployBench, ArroyoClient], object], fields: dict[str, Any], version: str
) -> None:
    with open_deploy_bench(version) as bench:
        other = bench.create_externally(OTHER)
        if act is prune_all:
            bench.deploy(SPEC)
        before = bench.pipelines()
        with pytest.raises(ArroyoUnreadableItemError) as caught:
            act(bench, damaged(bench, fields))
        assert other.id in str(caught.value)
        assert bench.pipelines() == before


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_a_deploy_does_not_need_an_unreadable_pipeline_of_another_name(version: str) -> None:
    with open_deploy_bench(version) as bench:
        bench.create_externally(OTHER)
        bench.deploy(SPEC, client=damaged(bench, BROKEN_PIPELINE))
        assert {one.name for one in bench.pipelines()} == {"orders", "other"}


@pytest.mark.parametrize(
    "name, fields, is_found",
    [
        ("orders", BROKEN_PIPELINE, True),
        ("orders", NAMELESS, True),
        ("other", BROKEN_PIPELINE, False),
        ("other", NAMELESS, False),
        ("neither", NAMELESS, False),
    ],
)
def test_a_name_that_is_found_does_not_need_the_unreadable_pipeline(
    name: str, fields: dict[str, Any], is_found: bool
) -> None:
    with open_deploy_bench("0.16") as bench:
        bench.create_externally(SPEC, pipeline_id="p1")
        bench.create_externally(OTHER, pipeline_id="p2")
        client = damaged(bench, fields)
        if is_found:
            assert resolve_name(client, name).pipeline.id == "p1"
        else:
            with pytest.raises(ArroyoUnreadableItemError, match="id 'p2'"):
                resolve_name(client, name)


@pytest.mark.parametrize("fields, is_created", [({"name": None}, False), ({"config": 7}, True)])
def test_a_profile_is_created_only_if_no_unreadable_one_may_be_it(
    fields: dict[str, Any], is_created: bool
) -> None:
    with open_deploy_bench("0.16") as bench:
        for name in ("other", "readable"):
            ensure_connection_profile(
                bench.client, name=name, connector="kafka", config={"bootstrapServers": "b:9092"}
            )
        client = damaged(bench, fields, path="/connection_profiles")
        given: dict[str, Any] = {"connector": "kafka", "config": {"bootstrapServers": "b:9092"}}
        assert not ensure_connection_profile(client, name="readable", **given).is_created
        if is_created:
            assert ensure_connection_profile(client, name="mine", **given).is_created
        else:
            with pytest.raises(ArroyoUnreadableItemError, match="name 'None'"):
                ensure_connection_profile(client, name="mine", **given)
            assert len(bench.client.list_connection_profiles()) == 2


UDF = "/*\n[dependencies]\n*/\nuse arroyo_udf_plugin::udf;\n#[udf]\nfn {}(x: i64) -> i64 {{ x }}"


def test_a_udf_is_not_created_beside_one_without_a_name() -> None:
    with open_deploy_bench("0.16") as bench:
        for name in ("other", "readable"):
            ensure_udf(bench.client, definition=UDF.format(name))
        client = damaged(bench, {"name": 5}, path="/udfs")
        assert not ensure_udf(client, definition=UDF.format("readable")).is_created
        with pytest.raises(ArroyoUnreadableItemError, match="name '5'"):
            ensure_udf(client, definition=UDF.format("mine"))


def with_a_damaged_checkpoint(bench: DeployBench) -> tuple[ArroyoClient, Job]:
    """Create a pipeline with two checkpoints; return a client to which the first is damaged, and the job."""
    made = bench.create_externally(SPEC)
    bench.sandbox.advance(20)
    job = bench.job(made.id)
    path = f"/pipelines/{made.id}/jobs/{job.id}/checkpoints"
    return damaged(bench, {"start_time": None}, matches='"epoch": 1,', path=path), job


def test_a_diagnosis_uses_the_checkpoints_that_can_be_read_and_names_the_other() -> None:
    with open_deploy_bench("0.16") as bench:
        client, job = with_a_damaged_checkpoint(bench)
        evidence = gather(client, str(job.pipeline_id))
        assert evidence.checkpoints[0].epoch == 2
        assert "epoch '1', field 'start_time'" in evidence.unread["checkpoints"]
        assert set(evidence.unread) == {"checkpoints"}


def test_a_stop_with_proof_is_not_requested_if_a_checkpoint_before_it_cannot_be_read() -> None:
    with open_deploy_bench("0.16") as bench:
        client, job = with_a_damaged_checkpoint(bench)
        pipeline_id = str(job.pipeline_id)
        proof = StopProof(client, PipelineRef(pipeline_id=pipeline_id), is_required=True)
        with pytest.raises(ArroyoError, match=r"its checkpoints cannot be read: .* field 'start_time'"):
            proof.request_stop(job, StopMode.CHECKPOINT)
        assert bench.job(pipeline_id).running_desired


def test_lineage_knows_the_connection_tables_that_can_be_read() -> None:
    with open_deploy_bench("0.16") as bench:
        for name in ("other", "readable"):
            given: dict[str, Any] = {"name": name, "connector": "impulse", "config": {"event_rate": 5}}
            bench.client.create_connection_table(**given)
        client = damaged(bench, {"config": 7}, path="/connection_tables")
        assert set(_tables(client)) == {"readable"}
