"""Keys and ids that stay the same, and labels that can be read back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import product
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_arroyo.client.models import Pipeline, Udf
from airflow_provider_arroyo.pipelines.ownership import (
    LABEL_VERSION,
    Owner,
    OwnershipLabel,
    UnreadableLabelError,
    check_user_tags,
    without_label,
)
from airflow_provider_arroyo.pipelines.spec import PipelineSpec

any_text = st.text(max_size=40)
non_blank = any_text.filter(lambda text: bool(text.strip()))
tag_maps = st.dictionaries(any_text, any_text, max_size=3)
owners = st.builds(Owner, dag_id=any_text, task_id=any_text, run_id=any_text, map_index=st.integers(-1, 999))
labels = st.builds(
    OwnershipLabel,
    key=st.text("0123456789abcdef", min_size=20, max_size=20),
    owner=owners,
    try_number=st.integers(1, 10**6),
    package_version=any_text,
    request_id=any_text,
)


def _owner(dag_id: str, task_id: str, run_id: str, map_index: int = -1) -> Owner:
    return Owner(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index)


def _spec(name: str, query: str, *udfs: Udf) -> PipelineSpec:
    return PipelineSpec(name=name, query=query, udfs=udfs)


OWNER = _owner("orders", "submit", "scheduled__2026-11-25T00:00:00+00:00")
LABEL = OwnershipLabel(key="k" * 20, owner=OWNER, try_number=1, package_version="1", request_id="r")
REQUIRED_FIELDS = ["label", "key", "dag", "task", "run", "map_index", "try", "package"]

# Written down once: a key that changed with a version of Python or of this package would make every cleared
# run start its pipeline a second time.
VECTORS = [
    (
        OWNER,
        _spec("orders per minute", "SELECT 1"),
        "a2f285849f8af6f8047c0512853571dac6a54e093ae2b57fce5ef243636af5c6",
        "d48a9731f8a496c914ab",
    ),
    (
        _owner("Übersicht", "日本語", "manual__\n", 3),
        _spec("N", "INSERT INTO \"ö\" SELECT '\U0001f600';", Udf("fn f() {}", "rust")),
        "b87b045c9330a9a0e27001f574e91b93e1397fcf77fcfc21fa4e8671176ebc70",
        "ebfd8e43735096f653f9",
    ),
    (
        _owner("d" * 250, "t" * 250, "r" * 250, 0),
        _spec("n" * 5000, "q" * 1000, Udf("a"), Udf("b", "python")),
        "a08e780828d55e13a1be4a01f2a741257a52399d73289dec66ba17c564ac9049",
        "6ab73c874c4eafd1189d",
    ),
]


# -- keys ----------------------------------------------------------------------------------------------------------


def submit_keys() -> list[str]:
    return [owner.submit_key(spec.fingerprint) for owner, spec, *_ in VECTORS]


def test_keys_never_change() -> None:
    assert [spec.fingerprint for _, spec, *_ in VECTORS] == [fingerprint for *_, fingerprint, _ in VECTORS]
    assert submit_keys() == [key for *_, key in VECTORS]


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_keys_are_the_same_in_every_process(hash_seed: str) -> None:
    script = "from tests.pipelines.test_ownership import submit_keys as keys; print(*keys())"
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.check_output([sys.executable, "-c", script], env=env, text=True)
    assert printed.split() == submit_keys()


@given(owner=owners, other=owners, field=st.sampled_from(["dag_id", "task_id", "run_id", "map_index"]))
def test_key_differs_with_each_part_of_the_owner(owner: Owner, other: Owner, field: str) -> None:
    changed = replace(owner, **{field: getattr(other, field)})
    assert (changed.submit_key("f") == owner.submit_key("f")) == (changed == owner)


texts = st.tuples(non_blank, non_blank, non_blank)


@given(one=texts, other=texts)
def test_key_differs_with_name_sql_and_udfs(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    def key(name: str, query: str, *udfs: str) -> str:
        return OWNER.submit_key(_spec(name, query, *map(Udf, udfs)).fingerprint)

    assert (key(*one) == key(*other)) == (one == other)
    assert key(*one) != key(*one[:2])


def test_key_depends_only_on_what_cannot_be_changed_later() -> None:
    spec = _spec("n", "q", Udf("a"), Udf("b"))
    assert replace(spec, udfs=spec.udfs[::-1]).fingerprint != spec.fingerprint
    other = replace(spec, parallelism=7, checkpoint_interval=timedelta(minutes=1), tags={"team": "data"})
    other = replace(other, env_vars={"A": "1"}, scheduler_config={"x": 1})
    assert other.fingerprint == spec.fingerprint


def test_no_two_owners_have_the_same_key() -> None:
    # ``a`` and ``bc`` must not be ``ab`` and ``c``.
    parts = ["", "a", "ab", "abc", "b", "bc", "c", "-1", '","', "\\", "[", "1"]
    owners = [_owner(dag_id, task_id, run_id) for dag_id, task_id, run_id in product(parts, repeat=3)]
    assert len({owner.submit_key("x") for owner in owners}) == len(parts) ** 3
    runs = product([f"manual__{number}" for number in range(1000)], range(1000))
    assert len({_owner("orders", "submit", *run).submit_key("x") for run in runs}) == 1_000_000


# -- ids -----------------------------------------------------------------------------------------------------------


@given(owner=owners)
def test_id_is_valid_in_urls(owner: Owner) -> None:
    key = owner.submit_key("x")
    pipeline_id = owner.pipeline_id(key)
    assert quote(pipeline_id, safe="") == pipeline_id
    assert re.fullmatch(r"af(-[a-z0-9]+)+", pipeline_id)
    assert pipeline_id.endswith("-" + key)
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
def test_id_is_readable(dag_id: str, task_id: str, start: str) -> None:
    assert _owner(dag_id, task_id, "r").pipeline_id("key") == start + "key"


def test_owner_in_messages() -> None:
    assert str(OWNER) == "task orders.submit of run scheduled__2026-11-25T00:00:00+00:00"
    assert str(replace(OWNER, map_index=0)).startswith("task orders.submit[0] of run")


# -- labels --------------------------------------------------------------------------------------------------------


def _read(query: str = "SELECT 1", tags: dict[str, str] | None = None) -> OwnershipLabel | None:
    return OwnershipLabel.of(Pipeline(id="pl_1", name="n", query=query, tags=tags or {}))


@given(label=labels, user_tags=tag_maps)
def test_label_is_read_back_from_tags(label: OwnershipLabel, user_tags: dict[str, str]) -> None:
    user_tags = {"u" + name: value for name, value in user_tags.items()}
    tags = label.to_tags()
    assert all(isinstance(value, str) for value in tags.values())
    assert _read(tags=json.loads(json.dumps({**user_tags, **tags}))) == label
    check_user_tags(user_tags)
    with pytest.raises(ValueError, match="tags"):
        check_user_tags(tags)


HOSTILE = "\n \r\n '\"`\\ */ /* -- ü日本語\U0001f600 \x00\x1f\x7f \u2028\x85 ; {{ x }}"
HOSTILE_LABEL = replace(LABEL, owner=_owner(HOSTILE, HOSTILE, HOSTILE), package_version=HOSTILE)


@example(label=HOSTILE_LABEL, user_tags={HOSTILE: HOSTILE}, query="SELECT 1")
@given(label=labels, user_tags=tag_maps, query=any_text)
def test_label_is_read_back_from_a_comment(
    label: OwnershipLabel, user_tags: dict[str, str], query: str
) -> None:
    comment = label.to_comment(user_tags)
    # Whatever it holds, it stays one line of comment, in plain ASCII.
    assert comment.startswith("-- ")
    assert comment.endswith("\n")
    assert comment.isascii()
    assert len(comment.splitlines()) == 1
    assert _read(comment + query) == label
    assert without_label(comment + query) == query


@given(query=st.text(max_size=200), tags=tag_maps)
def test_any_text_has_no_label_or_a_damaged_one(query: str, tags: dict[str, str]) -> None:
    for prefix in ("", "-- airflow: "):
        try:
            assert _read(prefix + query, tags) is None
        except UnreadableLabelError as err:
            assert "its ownership label" in str(err)  # noqa: PT017  # either outcome is right


@given(
    label=labels,
    name=st.sampled_from(REQUIRED_FIELDS),
    value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), any_text, st.lists(st.integers())),
)
def test_changed_field_is_unreadable_or_another_label(
    label: OwnershipLabel, name: str, value: object
) -> None:
    fields = json.loads(label.to_comment({}).removeprefix("-- airflow: "))
    fields[name] = value
    try:
        read = _read(f"-- airflow: {json.dumps(fields)}\n")
    except UnreadableLabelError as err:
        # The owner is reported where it is still readable, so that no pipeline of ours is ignored.
        is_lost = name in ("dag", "task", "run", "map_index")
        assert is_lost or err.owner == label.owner  # noqa: PT017  # either outcome is right
    else:
        assert read is not None
        assert isinstance(read.key, str)
        assert read.key


@pytest.mark.parametrize("missing", [*REQUIRED_FIELDS, "request"])
def test_missing_field(missing: str) -> None:
    tags = {**LABEL.to_tags(), "airflow.unknown": "x"}
    assert _read(tags=tags) == LABEL
    del tags["airflow." + missing]
    if missing == "request":
        assert _read(tags=tags) == replace(LABEL, request_id="")
        return
    with pytest.raises(UnreadableLabelError, match="its ownership label is damaged"):
        _read(tags=tags)


def test_newer_label() -> None:
    tags = {**LABEL.to_tags(), "airflow.label": str(LABEL_VERSION + 1), "airflow.new": "field"}
    with pytest.raises(UnreadableLabelError) as caught:
        _read(tags=tags)
    assert f"version {LABEL_VERSION + 1}, this package reads up to {LABEL_VERSION}" in str(caught.value)
    assert "a newer airflow-provider-arroyo wrote it" in str(caught.value)
    assert caught.value.owner == OWNER


def test_pipelines_without_a_label() -> None:
    assert _read() is None
    assert _read("--airflow: {}\nSELECT 1") is None
    assert _read("\n-- airflow: {}\nSELECT 1") is None
    assert _read(tags={"airflow": "x", "team": "y"}) is None
    assert without_label("-- mine\nSELECT 1") == "-- mine\nSELECT 1"


def test_each_request_has_an_id_of_its_own() -> None:
    assert len({LABEL.for_new_request().request_id for _ in range(1000)}) == 1000
    assert replace(LABEL.for_new_request(), request_id="r") == LABEL
