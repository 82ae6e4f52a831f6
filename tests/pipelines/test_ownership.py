"""Stable keys and ids, and labels that can be read back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import product
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.pipelines.ownership import (
    LABEL_VERSION,
    Deployment,
    Owner,
    OwnershipLabel,
    UnreadableLabelError,
    user_tags_of,
    without_label,
)
from airflow_provider_arroyo.pipelines.tags import check_tags

any_text = st.text(max_size=40)
tag_maps = st.dictionaries(any_text, any_text, max_size=3)
owner_fields = {
    "dag_id": any_text,
    "task_id": any_text,
    "run_id": any_text,
    "map_index": st.integers(-1, 999),
}
owners = st.builds(Owner, **owner_fields, namespace=any_text)


@st.composite
def _labels(draw: st.DrawFn) -> OwnershipLabel:
    namespace = draw(any_text)
    label = OwnershipLabel(
        task=draw(st.builds(Owner, **owner_fields, namespace=st.just(namespace))),
        try_number=draw(st.integers(1, 10**6)),
        package_version=draw(any_text),
        request_id=draw(any_text),
    )
    if draw(st.booleans()):
        return label
    deployment = Deployment(group=draw(any_text), name=draw(any_text), namespace=namespace)
    return replace(label, deployment=deployment, generation=draw(st.integers(1, 999)))


labels = _labels()


def _owner(dag_id: str, task_id: str, run_id: str, map_index: int = -1, namespace: str = "") -> Owner:
    return Owner(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index, namespace=namespace)


OWNER = _owner("orders", "submit", "scheduled__2026-11-25T00:00:00+00:00")
LABEL = OwnershipLabel(task=OWNER, try_number=1, package_version="1", request_id="r")
DEPLOYMENT = Deployment(group="default", name="orders", namespace="")
DEPLOYED = replace(LABEL, deployment=DEPLOYMENT, generation=3)
REQUIRED_FIELDS = ["label", "key", "namespace", "dag", "task", "run", "map_index", "try", "package"]

# Constants: if a key changed with a version of Python or of this package, every cleared run would start its pipeline
# a second time.
VECTORS: list[tuple[Owner | Deployment, str]] = [
    (OWNER, "b3158b0ca8fbdd90b9f0"),
    (replace(OWNER, namespace="airflow.example.com"), "8deb64ea31b45e7b8372"),
    (_owner("Übersicht", "日本語", "manual__\n", 3), "90b6bfb235b4a24780a1"),
    (_owner("d" * 250, "t" * 250, "r" * 250, 0, "n" * 250), "1efcdbd4c2263ce5bc16"),
    (DEPLOYMENT, "3ebdd0b30c4c8c93fd99"),
    (Deployment(group="Gruppe ü", name='a "name"\n', namespace="staging"), "f3ff527edeb1777516b5"),
]


# -- keys ----------------------------------------------------------------------------------------------------------


def keys() -> list[str]:
    return [owner.key for owner, _ in VECTORS]


def test_keys_never_change() -> None:
    assert keys() == [key for _, key in VECTORS]


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_keys_are_the_same_in_every_process(hash_seed: str) -> None:
    script = "from tests.pipelines.test_ownership import keys; print(*keys())"
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.check_output([sys.executable, "-c", script], env=env, text=True)
    assert printed.split() == keys()


@given(owner=owners, other=owners, field=st.sampled_from([*owner_fields, "namespace"]))
def test_each_part_of_the_owner_changes_the_key(owner: Owner, other: Owner, field: str) -> None:
    changed = replace(owner, **{field: getattr(other, field)})
    assert (changed.key == owner.key) == (changed == owner)


def test_no_two_owners_have_the_same_key() -> None:
    # ``a`` and ``bc`` differ from ``ab`` and ``c``, and a submit's key from a deployment's.
    parts = ["", "a", "ab", "abc", "b", "bc", "c", "-1", '","', "\\", "[", "1"]
    owners: list[Owner | Deployment] = [
        _owner(one, two, three) for one, two, three in product(parts, repeat=3)
    ]
    owners += [
        Deployment(namespace=one, group=two, name=three) for one, two, three in product(parts, repeat=3)
    ]
    assert len({owner.key for owner in owners}) == 2 * len(parts) ** 3
    runs = product([f"manual__{number}" for number in range(100)], range(1000))
    assert len({_owner("orders", "submit", *run).key for run in runs}) == 100_000


# -- ids -----------------------------------------------------------------------------------------------------------


@given(owner=owners)
def test_an_id_is_valid_in_urls(owner: Owner) -> None:
    pipeline_id = owner.pipeline_id
    assert quote(pipeline_id, safe="") == pipeline_id
    assert re.fullmatch(r"af(-[a-z0-9]+)+", pipeline_id)
    assert pipeline_id.endswith("-" + owner.key)
    assert len(pipeline_id) <= 75


@pytest.mark.parametrize(
    "dag_id, task_id, start",
    [
        ("orders", "submit", "af-orders-submit-"),
        ("Übersicht", "日本語", "af-bersicht-"),
        ("d" * 250, "t" * 250, f"af-{'d' * 24}-{'t' * 24}-"),
        ("Orders.Per_Minute", "group.submit", "af-orders-per-minute-group-submit-"),
        ("a" * 300, "submit", f"af-{'a' * 24}-submit-"),
        ("daten-für-übersicht", "日本語", "af-daten-f-r-bersicht-"),
        ("日本語", "___", "af-"),
        ("a very long name of a dag", "x", "af-a-very-long-name-of-a-da-x-"),
        ("exactly twenty three ch - x", "t", "af-exactly-twenty-three-ch-t-"),
        ("<script>", "../..", "af-script-"),
    ],
)
def test_an_id_is_readable(dag_id: str, task_id: str, start: str) -> None:
    owner, deployment = _owner(dag_id, task_id, "r"), Deployment(group=dag_id, name=task_id)
    assert owner.pipeline_id == start + owner.key
    assert deployment.pipeline_id(12) == f"{start}{deployment.key}-g12"


def test_the_text_of_an_owner() -> None:
    assert str(OWNER) == "task orders.submit of run scheduled__2026-11-25T00:00:00+00:00"
    assert str(replace(OWNER, map_index=0)).startswith("task orders.submit[0] of run")
    assert str(replace(OWNER, namespace="staging")).endswith("+00:00 in namespace 'staging'")
    assert str(DEPLOYMENT) == "deployment 'orders' of group 'default'"


# -- labels --------------------------------------------------------------------------------------------------------


def _read(query: str = "SELECT 1", tags: dict[str, str] | None = None) -> OwnershipLabel | None:
    return OwnershipLabel.of(Pipeline(id="pl_1", name="n", query=query, tags=tags or {}))


@given(label=labels, user_tags=tag_maps)
def test_a_label_is_read_from_tags(label: OwnershipLabel, user_tags: dict[str, str]) -> None:
    user_tags = {"u" + name: value for name, value in user_tags.items()}
    tags = label.to_tags()
    assert all(isinstance(value, str) for value in tags.values())
    pipeline = Pipeline(id="pl_1", name="n", query="q", tags=json.loads(json.dumps({**user_tags, **tags})))
    assert OwnershipLabel.of(pipeline) == label
    assert user_tags_of(pipeline) == user_tags
    assert check_tags({"team": "data", "my.airflow.tag": ""}) == {"team": "data", "my.airflow.tag": ""}
    with pytest.raises(ValueError, match="tags"):
        check_tags(tags)


HOSTILE = "\n \r\n '\"`\\ */ /* -- ü日本語\U0001f600 \x00\x1f\x7f \u2028\x85 ; {{ x }}"
HOSTILE_LABEL = replace(
    LABEL,
    task=_owner(HOSTILE, HOSTILE, HOSTILE, namespace=HOSTILE),
    package_version=HOSTILE,
    deployment=Deployment(group=HOSTILE, name=HOSTILE, namespace=HOSTILE),
    generation=1,
)


@example(label=HOSTILE_LABEL, user_tags={HOSTILE: HOSTILE}, query="SELECT 1")
@given(label=labels, user_tags=tag_maps, query=any_text)
def test_a_label_is_read_from_a_comment(label: OwnershipLabel, user_tags: dict[str, str], query: str) -> None:
    comment = label.to_comment(user_tags)
    # Whatever it contains, it is one line of comment in plain ASCII.
    assert comment.startswith("-- ")
    assert comment.endswith("\n")
    assert comment.isascii()
    assert len(comment.splitlines()) == 1
    pipeline = Pipeline(id="pl_1", name="n", query=comment + query)
    assert OwnershipLabel.of(pipeline) == label
    assert without_label(pipeline.query) == query
    assert user_tags_of(pipeline) == user_tags


@given(query=st.text(max_size=200), tags=tag_maps)
def test_random_text_has_no_label_or_a_damaged_one(query: str, tags: dict[str, str]) -> None:
    for prefix in ("", "-- airflow: "):
        try:
            assert _read(prefix + query, tags) is None
        except UnreadableLabelError as err:
            assert "its ownership label" in str(err)  # noqa: PT017  # either outcome is correct


@given(
    label=labels,
    name=st.sampled_from(REQUIRED_FIELDS),
    value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), any_text, st.lists(st.integers())),
)
def test_a_changed_field_makes_the_label_unreadable_or_another_one(
    label: OwnershipLabel, name: str, value: object
) -> None:
    fields = json.loads(label.to_comment({}).removeprefix("-- airflow: "))
    fields[name] = value
    try:
        read = _read(f"-- airflow: {json.dumps(fields)}\n")
    except UnreadableLabelError as err:
        # The owner is reported if it is still readable, so that no pipeline of ours is ignored.
        is_lost = name in ("namespace", "dag", "task", "run", "map_index")
        assert is_lost or err.owner == label.owner  # noqa: PT017  # either outcome is correct
    else:
        assert read is not None
        assert read.owner == label.owner


@pytest.mark.parametrize(
    "label, missing",
    [
        *((LABEL, name) for name in [*REQUIRED_FIELDS, "request"]),
        *((DEPLOYED, name) for name in ("group", "name", "generation", "key")),
    ],
)
def test_a_label_without_a_field_is_damaged(label: OwnershipLabel, missing: str) -> None:
    tags = {**label.to_tags(), "airflow.unknown": "x"}
    assert _read(tags=tags) == label
    del tags["airflow." + missing]
    if missing == "request":
        assert _read(tags=tags) == replace(label, request_id="")
        return
    with pytest.raises(UnreadableLabelError, match="its ownership label is damaged"):
        _read(tags=tags)


@pytest.mark.parametrize("value", ["0", "-1", "x", ""])
def test_a_label_with_an_invalid_generation_is_damaged(value: str) -> None:
    with pytest.raises(UnreadableLabelError, match="its ownership label is damaged") as caught:
        _read(tags={**DEPLOYED.to_tags(), "airflow.generation": value})
    assert caught.value.owner == DEPLOYMENT


def test_a_deployment_must_be_in_the_namespace_of_its_task() -> None:
    with pytest.raises(ValueError, match="in the same namespace"):
        replace(DEPLOYED, deployment=replace(DEPLOYMENT, namespace="staging"))


def test_a_label_of_a_newer_version_is_refused() -> None:
    tags = {**LABEL.to_tags(), "airflow.label": str(LABEL_VERSION + 1), "airflow.new": "field"}
    with pytest.raises(UnreadableLabelError) as caught:
        _read(tags=tags)
    assert f"version {LABEL_VERSION + 1}, but this package reads up to {LABEL_VERSION}" in str(caught.value)
    assert "a newer airflow-provider-arroyo wrote it" in str(caught.value)
    assert caught.value.owner == OWNER


def test_a_pipeline_without_a_label_has_no_owner() -> None:
    assert _read() is None
    assert _read("--airflow: {}\nSELECT 1") is None
    assert _read("\n-- airflow: {}\nSELECT 1") is None
    assert _read(tags={"airflow": "x", "team": "y"}) is None
    assert without_label("-- mine\nSELECT 1") == "-- mine\nSELECT 1"


def test_each_request_has_its_own_id() -> None:
    assert len({LABEL.for_new_request().request_id for _ in range(1000)}) == 1000
    assert replace(LABEL.for_new_request(), request_id="r") == LABEL
