from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo.identity import (
    MARK_VERSION,
    DamagedMarkError,
    Mark,
    Owner,
    check_user_tags,
    without_comment,
)
from airflow_provider_arroyo.arroyo.pipeline import Pipeline
from airflow_provider_arroyo.arroyo.spec import PipelineSpec, Udf

any_text = st.text(max_size=40)
name_text = any_text.filter(lambda text: bool(text.strip()))
owners = st.builds(
    Owner,
    dag_id=any_text,
    task_id=any_text,
    run_id=any_text,
    map_index=st.integers(min_value=-1, max_value=10**6),
)
marks = st.builds(
    Mark,
    key=st.text("0123456789abcdef", min_size=20, max_size=20),
    owner=owners,
    try_number=st.integers(min_value=1, max_value=10**6),
    package_version=any_text,
    call=any_text,
)
OWNER = Owner(dag_id="orders", task_id="submit", run_id="scheduled__2026-11-25T00:00:00+00:00")

# Written down once: a key that changed with a version of Python or of this package would make every cleared
# run start its pipeline a second time.
VECTORS = [
    (
        OWNER,
        PipelineSpec(name="orders per minute", query="SELECT 1"),
        "a2f285849f8af6f8047c0512853571dac6a54e093ae2b57fce5ef243636af5c6",
        "d48a9731f8a496c914ab",
        "af-orders-submit-d48a9731f8a496c914ab",
    ),
    (
        Owner(dag_id="Übersicht", task_id="日本語", run_id="manual__\n", map_index=3),
        PipelineSpec(
            name="N", query="INSERT INTO \"ö\" SELECT '\U0001f600';", udfs=(Udf("fn f() {}", "rust"),)
        ),
        "b87b045c9330a9a0e27001f574e91b93e1397fcf77fcfc21fa4e8671176ebc70",
        "ebfd8e43735096f653f9",
        "af-bersicht-ebfd8e43735096f653f9",
    ),
    (
        Owner(dag_id="d" * 250, task_id="t" * 250, run_id="r" * 250, map_index=0),
        PipelineSpec(name="n" * 5000, query="q" * 1000, udfs=(Udf("a"), Udf("b", "python"))),
        "a08e780828d55e13a1be4a01f2a741257a52399d73289dec66ba17c564ac9049",
        "6ab73c874c4eafd1189d",
        "af-dddddddddddddddddddddddd-tttttttttttttttttttttttt-6ab73c874c4eafd1189d",
    ),
]


@pytest.mark.parametrize("owner, spec, fingerprint, key, pipeline_id", VECTORS)
def test_key_is_what_it_always_was(
    owner: Owner, spec: PipelineSpec, fingerprint: str, key: str, pipeline_id: str
) -> None:
    assert spec.fingerprint == fingerprint
    assert owner.submit_key(fingerprint) == key
    assert owner.pipeline_id(key) == pipeline_id


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_key_is_the_same_in_every_process(hash_seed: str) -> None:
    script = (
        "from airflow_provider_arroyo.arroyo.identity import Owner\n"
        "from airflow_provider_arroyo.arroyo.spec import PipelineSpec\n"
        "spec = PipelineSpec(name='n', query='q', udfs=[{'definition': 'f', 'language': 'rust'}])\n"
        "print(Owner(dag_id='d', task_id='t', run_id='r', map_index=1).submit_key(spec.fingerprint))\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    spec = PipelineSpec(name="n", query="q", udfs=(Udf("f", "rust"),))
    owner = Owner(dag_id="d", task_id="t", run_id="r", map_index=1)
    assert printed.stdout.strip() == owner.submit_key(spec.fingerprint)


@given(
    owner=owners,
    field=st.sampled_from(["dag_id", "task_id", "run_id", "map_index"]),
    other=owners,
    name=name_text,
    query=name_text,
)
def test_key_differs_with_each_part_of_the_owner(
    owner: Owner, field: str, other: Owner, name: str, query: str
) -> None:
    changed = replace(owner, **{field: getattr(other, field)})
    fingerprint = PipelineSpec(name=name, query=query).fingerprint
    same = changed == owner
    assert (changed.submit_key(fingerprint) == owner.submit_key(fingerprint)) == same


@given(one=st.tuples(name_text, name_text, name_text), other=st.tuples(name_text, name_text, name_text))
def test_key_differs_with_name_sql_and_udfs(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    def key(name: str, query: str, udf: str) -> str:
        return OWNER.submit_key(PipelineSpec(name=name, query=query, udfs=(Udf(udf),)).fingerprint)

    assert (key(*one) == key(*other)) == (one == other)
    assert key(*one) != OWNER.submit_key(PipelineSpec(name=one[0], query=one[1]).fingerprint)


def test_parts_do_not_run_into_each_other() -> None:
    """``a`` and ``bc`` must not be ``ab`` and ``c``."""
    parts = ["", "a", "ab", "abc", "b", "bc", "c", "-1", '","', "\\", "[", "1"]
    keys = {
        Owner(dag_id=dag_id, task_id=task_id, run_id=run_id).submit_key("x")
        for dag_id in parts
        for task_id in parts
        for run_id in parts
    }
    assert len(keys) == len(parts) ** 3


def test_key_does_not_see_what_can_be_changed_later() -> None:
    from datetime import timedelta

    spec = PipelineSpec(name="n", query="q")
    same = PipelineSpec(
        name="n",
        query="q",
        parallelism=7,
        checkpoint_interval=timedelta(minutes=1),
        tags={"team": "data"},
        env_vars={"A": "1"},
        scheduler_config={"x": 1},
    )
    assert same.fingerprint == spec.fingerprint


def test_order_of_udfs_counts() -> None:
    one, other = Udf("a"), Udf("b")
    assert (
        PipelineSpec(name="n", query="q", udfs=(one, other)).fingerprint
        != PipelineSpec(name="n", query="q", udfs=(other, one)).fingerprint
    )


def test_no_collisions_among_a_million_keys() -> None:
    fingerprint = PipelineSpec(name="n", query="q").fingerprint
    keys = {
        Owner(dag_id="orders", task_id="submit", run_id=run_id, map_index=index).submit_key(fingerprint)
        for run_id in (f"manual__{number}" for number in range(1000))
        for index in range(1000)
    }
    assert len(keys) == 1_000_000


# -- the id ----------------------------------------------------------------------------------------------------


@given(owner=owners)
def test_id_is_fit_for_urls_and_people(owner: Owner) -> None:
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
        ("Orders.Per_Minute", "group.submit", "af-orders-per-minute-group-submit-"),
        ("a" * 300, "submit", f"af-{'a' * 24}-submit-"),
        ("daten-für-übersicht", "日本語", "af-daten-f-r-bersicht-"),
        ("日本語", "___", "af-"),
        ("a very long name of a dag", "x", "af-a-very-long-name-of-a-da-x-"),
        ("exactly twenty three ch - x", "t", "af-exactly-twenty-three-ch-t-"),
        ("<script>", "../..", "af-script-"),
    ],
)
def test_id_can_be_read(dag_id: str, task_id: str, start: str) -> None:
    owner = Owner(dag_id=dag_id, task_id=task_id, run_id="r")
    key = owner.submit_key("x")
    assert owner.pipeline_id(key) == start + key


def test_owner_in_words() -> None:
    assert str(OWNER) == "task orders.submit of run scheduled__2026-11-25T00:00:00+00:00"
    assert str(replace(OWNER, map_index=0)).startswith("task orders.submit[0] of run")


# -- marks -----------------------------------------------------------------------------------------------------


def _pipeline(query: str = "SELECT 1", tags: dict[str, str] | None = None) -> Pipeline:
    return Pipeline(id="pl_1", name="n", query=query, tags=tags or {})


@given(mark=marks, user_tags=st.dictionaries(any_text.map(lambda t: "u" + t), any_text, max_size=3))
def test_mark_comes_back_from_tags(mark: Mark, user_tags: dict[str, str]) -> None:
    tags = mark.to_tags()
    assert all(isinstance(value, str) for value in tags.values())
    # Both are written, and the user's own stay beside ours.
    assert Mark.of(_pipeline(tags=json.loads(json.dumps({**user_tags, **tags})))) == mark
    check_user_tags(user_tags)
    with pytest.raises(ValueError, match="tags"):
        check_user_tags(tags)


@given(mark=marks, user_tags=st.dictionaries(any_text, any_text, max_size=3), query=any_text)
def test_mark_comes_back_from_a_comment(mark: Mark, user_tags: dict[str, str], query: str) -> None:
    comment = mark.to_comment(user_tags)
    # Whatever is in it, it stays one line of comment, in plain ASCII.
    assert comment.startswith("-- ")
    assert comment.endswith("\n")
    assert comment.isascii()
    assert len(comment.splitlines()) == 1
    assert Mark.of(_pipeline(comment + query)) == mark
    assert without_comment(comment + query) == query


@pytest.mark.parametrize(
    "text",
    ["\n", "\r\n", "'\"`\\", "*/ /* --", "ü日本語\U0001f600", "\x00\x1f\x7f", "\u2028\x85", ";", "{{ x }}"],
)
def test_texts_that_could_break_out_of_a_comment(text: str) -> None:
    owner = Owner(dag_id=text, task_id=text, run_id=text)
    mark = Mark(key="k" * 20, owner=owner, try_number=1, package_version=text)
    comment = mark.to_comment({text: text})
    assert len(comment.splitlines()) == 1
    assert Mark.of(_pipeline(comment + "SELECT 1")) == mark


def _read(pipeline: Pipeline) -> Mark | DamagedMarkError | None:
    try:
        return Mark.of(pipeline)
    except DamagedMarkError as err:
        return err


@given(query=st.text(max_size=200), tags=st.dictionaries(any_text, any_text, max_size=4))
def test_reading_anything_gives_no_mark_or_says_that_it_is_damaged(query: str, tags: dict[str, str]) -> None:
    for prefix in ("", "-- airflow: "):
        read = _read(_pipeline(prefix + query, tags))
        assert read is None or (isinstance(read, DamagedMarkError) and "its mark" in str(read))


@given(
    mark=marks,
    name=st.sampled_from(["mark", "key", "dag", "task", "run", "map_index", "try", "package"]),
    value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), any_text, st.lists(st.integers())),
)
def test_a_damaged_field_is_damage_or_another_mark(mark: Mark, name: str, value: object) -> None:
    comment = mark.to_comment({})
    fields = json.loads(comment.removeprefix("-- airflow: "))
    fields[name] = value
    read = _read(_pipeline(f"-- airflow: {json.dumps(fields)}\n"))
    assert read is not None
    if isinstance(read, Mark):
        assert isinstance(read.key, str)
        assert read.key
        return
    # What can be read all the same is told, so that nothing of ours is passed over.
    if name != "key":
        assert read.key == mark.key
    if name not in ("dag", "task", "run", "map_index"):
        assert read.owner == mark.owner


@pytest.mark.parametrize("missing", ["mark", "key", "dag", "task", "run", "map_index", "try", "package"])
def test_every_field_is_needed_but_one(missing: str) -> None:
    mark = Mark(key="k" * 20, owner=OWNER, try_number=1, package_version="1", call="c")
    tags = mark.to_tags()
    del tags["airflow." + missing]
    with pytest.raises(DamagedMarkError, match="its mark is damaged"):
        Mark.of(_pipeline(tags=tags))
    without_call = {name: value for name, value in mark.to_tags().items() if name != "airflow.call"}
    assert Mark.of(_pipeline(tags=without_call)) == replace(mark, call="")


def test_newer_mark_says_so() -> None:
    mark = Mark(key="k" * 20, owner=OWNER, try_number=1, package_version="1")
    tags = {**mark.to_tags(), "airflow.mark": str(MARK_VERSION + 1), "airflow.new": "field"}
    with pytest.raises(DamagedMarkError) as caught:
        Mark.of(_pipeline(tags=tags))
    assert f"version {MARK_VERSION + 1}, this package reads up to {MARK_VERSION}" in str(caught.value)
    assert "a newer airflow-provider-arroyo made it" in str(caught.value)
    assert (caught.value.key, caught.value.owner) == (mark.key, OWNER)


def test_unknown_fields_of_the_same_version_are_ignored() -> None:
    mark = Mark(key="k" * 20, owner=OWNER, try_number=1, package_version="1", call="c")
    assert Mark.of(_pipeline(tags={**mark.to_tags(), "airflow.later": "x"})) == mark


def test_pipelines_without_a_mark() -> None:
    assert Mark.of(_pipeline()) is None
    assert Mark.of(_pipeline("--airflow: {}\nSELECT 1")) is None
    assert Mark.of(_pipeline("\n-- airflow: {}\nSELECT 1")) is None
    assert Mark.of(_pipeline(tags={"airflow": "x", "team": "y"})) is None
    assert without_comment("-- mine\nSELECT 1") == "-- mine\nSELECT 1"


def test_each_call_has_a_mark_of_its_own() -> None:
    mark = Mark(key="k" * 20, owner=OWNER, try_number=1, package_version="1")
    calls = {mark.for_new_call().call for _ in range(1000)}
    assert len(calls) == 1000
    assert replace(mark.for_new_call(), call="") == mark
