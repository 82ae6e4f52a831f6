"""Labels that cannot be trusted: damaged, newer, copied with their pipeline, or colliding with the user's tags."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_arroyo.exceptions import ArroyoOwnershipError
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.pipelines.ownership import LABEL_VERSION, OwnershipLabel
from tests.pipelines.bench import LABEL, OWNER, PIPELINE_ID, SPEC, Bench
from tests.support import BOUNDED

COMMENT = LABEL.to_comment({})


def _newer(label: OwnershipLabel) -> str:
    return label.to_comment({}).replace(f'"label": "{LABEL_VERSION}"', f'"label": "{LABEL_VERSION + 1}"')


UNREADABLE_COMMENTS = {
    "newer": _newer(LABEL),
    "newer, with another kind of key": _newer(LABEL).replace(LABEL.key, "a-new-kind-of-key"),
    "cut off": COMMENT[:60] + "\n",
    "key damaged": COMMENT.replace('"key"', '"kee"'),
    "owner damaged": COMMENT.replace('"dag": "orders"', '"dag": 7'),
    "not an object": "-- airflow: 17\n",
    "not JSON": "-- airflow: created for orders\n",
    "nested too deep": "-- airflow: " + "[" * 100_000 + "\n",
    "infinite": COMMENT.replace(f'"label": "{LABEL_VERSION}"', '"label": Infinity'),
}


@pytest.mark.parametrize("comment", UNREADABLE_COMMENTS.values(), ids=list(UNREADABLE_COMMENTS))
@pytest.mark.parametrize("try_number", [1, 2])
def test_an_unreadable_comment_of_ours_is_an_error(bench_015: Bench, comment: str, try_number: int) -> None:
    kept = bench_015.create_externally(comment=comment)
    bench_015.sandbox.requests.clear()
    with pytest.raises(ArroyoOwnershipError) as caught:
        bench_015.submit(try_number=try_number)
    for part in (kept.id, "its ownership label", "Nothing was changed or created"):
        assert part in str(caught.value)
    assert {request.method for request in bench_015.sandbox.requests} <= {"GET", "PUT"}
    assert bench_015.only_pipeline().id == kept.id


def test_an_unreadable_comment_of_another_pipeline_is_ignored_and_logged_once(bench_015: Bench) -> None:
    other_label = replace(LABEL, task=replace(OWNER, run_id="manual__1"))
    ignored = [
        bench_015.create_externally(comment=_newer(other_label)),
        bench_015.create_externally(replace(SPEC, name="by hand"), comment="-- airflow: a note\n"),
    ]
    created = bench_015.submit().pipeline
    for pipeline in ignored:
        assert pipeline.id != created.id
        assert bench_015.lines.text("WARNING").count(f"Pipeline {pipeline.id} is ignored") == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"airflow.label": str(LABEL_VERSION + 1)},
        {"airflow.label": "one"},
        {"airflow.label": "0"},
        {"airflow.key": None},
        {"airflow.run": None},
        {"airflow.map_index": "x"},
        {"airflow.try": ""},
    ],
    ids=str,
)
def test_unreadable_tags_of_the_pipeline_with_our_id_are_an_error(
    bench_016: Bench, changed: dict[str, str | None]
) -> None:
    tags = {name: value for name, value in {**LABEL.to_tags(), **changed}.items() if value is not None}
    bench_016.create_externally(replace(SPEC, tags=tags), pipeline_id=PIPELINE_ID)
    with pytest.raises(ArroyoOwnershipError, match=r"task orders\.submit.*its ownership label "):
        bench_016.submit(try_number=2)
    assert bench_016.only_pipeline().id == PIPELINE_ID
    assert bench_016.sandbox.requests.count("DELETE") == bench_016.sandbox.requests.count("PATCH") == 0


def test_an_edited_copy_of_our_pipeline_is_not_ours(bench_015: Bench) -> None:
    first = bench_015.submit().pipeline
    comment = first.query.partition("\n")[0] + "\n"
    other_sql = replace(SPEC, query=BOUNDED.replace("'20'", "'2000000'"))
    copies = {
        bench_015.create_externally(spec, comment=comment).id
        for spec in (other_sql, replace(SPEC, name="a copy"))
    }
    assert bench_015.submit(try_number=2).pipeline.id == first.id
    assert bench_015.running() == {first.id, *copies}
    for copy in copies:
        assert f"{copy} is a copy of {first.id} made externally" in bench_015.lines.text("WARNING")


def test_an_exact_copy_is_left_alone(bench_015: Bench) -> None:
    """Arroyo's console starts copies of pipelines, comments and all."""
    first = bench_015.submit().pipeline
    bench_015.sandbox.advance(60)
    copy = bench_015.create_externally(replace(SPEC, query=first.query))
    bench_015.sandbox.advance(60)
    again = bench_015.submit(try_number=2)
    assert (again.pipeline.id, again.action) == (first.id, Action.ADOPTED)
    assert bench_015.running() == {first.id, copy.id}
    assert f"{copy.id} is a copy of {first.id} made externally" in bench_015.lines.text("WARNING")


def test_tags_of_the_user_that_collide_with_ours_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"tags: .*'airflow\.'.*\['airflow\.dag', 'airflow\.x'\]"):
        bench.submit(replace(SPEC, tags={"airflow.x": "1", "airflow.dag": "2", "air.flow": "3"}))
    assert bench.sandbox.requests.total == 0


def test_a_label_of_0_15_is_valid_after_an_upgrade(bench_016: Bench) -> None:
    made = bench_016.create_externally(comment=COMMENT)
    bench_016.change(made.id, "Running")
    again = bench_016.submit(try_number=2)
    assert (again.pipeline.id, again.action) == (made.id, Action.ADOPTED)
    assert bench_016.only_pipeline().id == made.id
