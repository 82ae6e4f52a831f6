"""A submit that nothing disturbs: made once, taken up again, refused where it is not ours."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.arroyo.existing import How
from airflow_provider_arroyo.arroyo.identity import MARK_VERSION, Mark, Owner
from airflow_provider_arroyo.arroyo.spec import PipelineSpec, Udf
from airflow_provider_arroyo.exceptions import (
    ArroyoOwnershipError,
    ArroyoQueryError,
    ArroyoUnsupportedError,
)
from tests.arroyo_core.bench import OWNER, SPEC, Bench
from tests.support import BOUNDED, ENDLESS


def test_first_try_makes_it_and_says_whose_it_is(both: Bench) -> None:
    submitted = both.submit()
    assert (submitted.how, submitted.before) == (How.CREATED, None)
    pipeline = both.the_only_one()
    assert pipeline.id == submitted.pipeline.id
    assert pipeline.name == SPEC.name
    assert pipeline.query.endswith(SPEC.query)
    mark = Mark.of(pipeline)
    assert mark is not None
    assert (mark.owner, mark.try_number, mark.package_version) == (OWNER, 1, "1.2.3")
    assert both.job(pipeline.id).state == "Running"


def test_on_0_16_the_id_is_derived_and_the_sql_is_untouched(new: Bench) -> None:
    pipeline = new.submit(replace(SPEC, tags={"team": "data"})).pipeline
    assert pipeline.id == OWNER.pipeline_id(OWNER.submit_key(SPEC.fingerprint))
    assert pipeline.query == ENDLESS
    assert pipeline.tags["team"] == "data"
    assert [(request.method, request.status) for request in new.sandbox.requests] == [("PUT", 200)]


def test_on_0_15_tags_go_into_the_comment(old: Bench) -> None:
    pipeline = old.submit(replace(SPEC, tags={"team": "data -- \n*/ 'x'"})).pipeline
    first_line, _, rest = pipeline.query.partition("\n")
    assert rest == ENDLESS
    assert json.loads(first_line.removeprefix("-- airflow: "))["tags"] == {"team": "data -- \n*/ 'x'"}
    assert "keeps no tags" in old.lines.text("INFO")


def test_everything_that_was_asked_for_arrives(new: Bench) -> None:
    spec = PipelineSpec(
        name="a 'name'\n<b>",
        query=ENDLESS,
        parallelism=3,
        checkpoint_interval=timedelta(seconds=42),
        env_vars={"A": "1"},
        scheduler_config={"x": {"y": 1}},
    )
    pipeline = new.submit(spec).pipeline
    assert (pipeline.name, pipeline.checkpoint_interval_micros) == (spec.name, 42_000_000)
    assert pipeline.graph.parallelism == 3
    assert new.job(pipeline.id).env_vars == {"A": "1"}


def test_a_later_try_takes_the_same_one(both: Bench) -> None:
    first = both.submit()
    both.sandbox.advance(5)
    for try_number in (2, 3):
        again = both.submit(try_number=try_number)
        assert (again.pipeline.id, again.how, again.before) == (first.pipeline.id, How.ADOPTED, None)
    assert both.the_only_one().id == first.pipeline.id
    assert "of an earlier try is Running: adopted" in both.lines.text("INFO")


def test_a_deleted_run_that_is_made_anew_takes_it_too(both: Bench) -> None:
    """Its tries are counted from 1 again, so the number of the try proves nothing."""
    first = both.submit(try_number=1)
    both.sandbox.faults.stop(first.pipeline.id)
    both.sandbox.advance(5)
    again = both.submit(try_number=1)
    assert (again.pipeline.id, again.how) == (first.pipeline.id, How.RESUMED)
    both.the_only_one()


@pytest.mark.parametrize(
    "other",
    [
        {"owner": replace(OWNER, run_id="manual__1")},
        {"owner": replace(OWNER, map_index=0)},
        {"owner": replace(OWNER, task_id="submit_too")},
        {"spec": replace(SPEC, name="another name")},
        {"spec": replace(SPEC, query=ENDLESS + "\n")},
    ],
)
def test_another_task_or_another_pipeline_gets_its_own(both: Bench, other: dict[str, Any]) -> None:
    first = both.submit()
    second = both.submit(**other)
    assert second.how is How.CREATED
    assert second.pipeline.id != first.pipeline.id
    assert len(both.running()) == 2


def test_the_same_pipeline_at_another_size_is_adopted(both: Bench) -> None:
    first = both.submit()
    again = both.submit(replace(SPEC, parallelism=4, tags={"team": "data"}), try_number=2)
    assert (again.pipeline.id, again.how) == (first.pipeline.id, How.ADOPTED)


def test_pipeline_id_of_the_user(new: Bench) -> None:
    pipeline = new.submit(pipeline_id="orders/per minute #1").pipeline
    assert pipeline.id == "orders/per minute #1"
    again = new.submit(pipeline_id="orders/per minute #1", try_number=2)
    assert (again.pipeline.id, again.how) == (pipeline.id, How.ADOPTED)
    new.the_only_one()


def test_pipeline_of_another_owner_under_the_id(new: Bench) -> None:
    other = replace(OWNER, dag_id="invoices", map_index=3)
    kept = new.submit(owner=other, pipeline_id="shared").pipeline
    with pytest.raises(ArroyoOwnershipError) as caught:
        new.submit(pipeline_id="shared")
    text = str(caught.value)
    assert "'shared'" in text
    assert "task invoices.submit[3] of run scheduled__2026-11-25" in text
    assert "this is task orders.submit of run" in text
    assert caught.value.owner == str(other)
    assert caught.value.is_permanent
    assert new.the_only_one().id == kept.id
    assert new.job(kept.id).running_desired


@pytest.mark.parametrize("on_existing", ["adopt", "replace", "fail"])
def test_pipeline_without_a_mark_under_the_id(new: Bench, on_existing: str) -> None:
    new.make(replace(SPEC, name="made by hand", tags={"team": "data"}), pipeline_id="shared")
    with pytest.raises(ArroyoOwnershipError, match="which does not carry the mark") as caught:
        new.submit(pipeline_id="shared", on_existing=on_existing)
    assert "'made by hand'" in str(caught.value)
    assert "task orders.submit" in str(caught.value)
    assert "Choose another pipeline_id" in str(caught.value)
    assert new.job("shared").running_desired
    assert new.sandbox.requests.count("DELETE") == 0


def test_other_sql_of_the_same_task_under_the_users_id(new: Bench) -> None:
    new.submit(pipeline_id="mine")
    changed = replace(SPEC, query=BOUNDED)
    with pytest.raises(ArroyoOwnershipError, match=r"this very task.*on_existing='replace'"):
        new.submit(changed, pipeline_id="mine", try_number=2)
    replaced = new.submit(changed, pipeline_id="mine", try_number=3, on_existing="replace")
    assert (replaced.how, replaced.pipeline.query) == (How.REPLACED, BOUNDED)
    assert [pipeline.id for pipeline in new.pipelines()] == ["mine"]


def test_old_server_refuses_what_it_would_ignore(old: Bench) -> None:
    spec = replace(SPEC, env_vars={"A": "1"}, scheduler_config={"x": 1})
    with pytest.raises(ArroyoUnsupportedError) as caught:
        old.submit(spec, pipeline_id="mine")
    assert "older than 0.16" in str(caught.value)
    assert "env_vars, scheduler_config, pipeline_id" in str(caught.value)
    assert old.pipelines() == []


def test_pipeline_that_was_made_before_the_server_learned_put(new: Bench) -> None:
    mark = Mark(key=OWNER.submit_key(SPEC.fingerprint), owner=OWNER, try_number=1, package_version="1")
    made = new.client.create_pipeline(replace(SPEC, query=mark.to_comment({}) + SPEC.query))
    again = new.submit(try_number=2)
    assert (again.pipeline.id, again.how) == (made.id, How.ADOPTED)
    new.the_only_one()


# -- marks that cannot be trusted ------------------------------------------------------------------------------


def _mark(**changes: object) -> Mark:
    mark = Mark(key=OWNER.submit_key(SPEC.fingerprint), owner=OWNER, try_number=1, package_version="9.9")
    return replace(mark, **changes)  # type: ignore[arg-type]  # tests name the fields that they change


def _as_newer(text: str) -> str:
    return text.replace(f'"mark": "{MARK_VERSION}"', f'"mark": "{MARK_VERSION + 1}"')


DAMAGED_COMMENTS = {
    "newer": _as_newer(_mark().to_comment({})),
    "newer, with keys of its own": _as_newer(_mark(key="a-new-kind-of-key").to_comment({})),
    "cut off": _mark().to_comment({})[:60] + "\n",
    "key damaged": _mark().to_comment({}).replace('"key"', '"kee"'),
    "owner damaged": _mark().to_comment({}).replace('"dag": "orders"', '"dag": 7'),
    "not an object": "-- airflow: 17\n",
    "no JSON at all": "-- airflow: made for orders\n",
    "nested too deep": "-- airflow: " + "[" * 100_000 + "\n",
    "infinite": _mark().to_comment({}).replace(f'"mark": "{MARK_VERSION}"', '"mark": Infinity'),
}


@pytest.mark.parametrize("comment", DAMAGED_COMMENTS.values(), ids=list(DAMAGED_COMMENTS))
@pytest.mark.parametrize("try_number", [1, 2])
def test_damaged_or_newer_comment_adopts_nothing_and_doubles_nothing(
    old: Bench, comment: str, try_number: int
) -> None:
    kept = old.make(old.marked(comment=comment))
    old.sandbox.requests.clear()
    with pytest.raises(ArroyoOwnershipError) as caught:
        old.submit(try_number=try_number)
    assert kept.id in str(caught.value)
    assert "its mark" in str(caught.value)
    assert "Nothing was changed, and nothing made beside it" in str(caught.value)
    assert {request.method for request in old.sandbox.requests} <= {"GET", "PUT"}
    assert old.the_only_one().id == kept.id


def test_damaged_comment_of_something_else_is_passed_over_and_said_once(old: Bench) -> None:
    other = _as_newer(_mark(owner=replace(OWNER, run_id="manual__1"), key="0" * 20).to_comment({}))
    other_run = old.make(old.marked(comment=other))
    by_hand = old.make(old.marked(replace(SPEC, name="by hand"), comment="-- airflow: a note\n"))
    made = old.submit().pipeline
    assert made.id not in (other_run.id, by_hand.id)
    for passed in (other_run, by_hand):
        assert old.lines.text("WARNING").count(f"Pipeline {passed.id} is passed over") == 1


@pytest.mark.parametrize(
    "tags",
    [
        {"airflow.mark": str(MARK_VERSION + 1)},
        {"airflow.mark": "one"},
        {"airflow.mark": "0"},
        {"airflow.key": None},
        {"airflow.run": None},
        {"airflow.map_index": "x"},
        {"airflow.try": ""},
    ],
    ids=str,
)
def test_damaged_or_newer_tags_adopt_nothing_and_double_nothing(
    new: Bench, tags: dict[str, str | None]
) -> None:
    changed = {**_mark().to_tags(), **tags}
    held = {name: value for name, value in changed.items() if value is not None}
    new.make(replace(SPEC, tags=held), pipeline_id=OWNER.pipeline_id(_mark().key))
    with pytest.raises(ArroyoOwnershipError) as caught:
        new.submit(try_number=2)
    assert "its mark" in str(caught.value)
    assert "this is task orders.submit" in str(caught.value)
    assert len(new.running()) == 1
    assert new.sandbox.requests.count("DELETE") == new.sandbox.requests.count("PATCH") == 0


def test_edited_copy_of_our_pipeline_is_not_ours(old: Bench) -> None:
    first = old.submit().pipeline
    comment = first.query.partition("\n")[0] + "\n"
    copy = old.make(old.marked(replace(SPEC, query=BOUNDED.replace("'20'", "'2000000'")), comment))
    renamed = old.make(old.marked(replace(SPEC, name="a copy"), comment))
    assert old.submit(try_number=2).pipeline.id == first.id
    assert {pipeline.id for pipeline in old.running()} == {first.id, copy.id, renamed.id}
    assert "a copy, passed over" in old.lines.text("WARNING")


def test_exact_copy_that_somebody_made_is_left_alone(old: Bench) -> None:
    """Arroyo's console starts copies of pipelines, comments and all."""
    first = old.submit().pipeline
    copy = old.make(replace(SPEC, query=first.query))
    old.sandbox.advance(60)
    again = old.submit(try_number=2)
    assert (again.pipeline.id, again.how) == (first.id, How.ADOPTED)
    assert {pipeline.id for pipeline in old.running()} == {first.id, copy.id}
    assert f"{copy.id} is a copy that somebody made" in old.lines.text("WARNING")


def test_tags_of_the_user_that_collide_with_ours(both: Bench) -> None:
    with pytest.raises(ValueError, match=r"tags: .*'airflow\.'.*\['airflow\.dag', 'airflow\.x'\]"):
        both.submit(replace(SPEC, tags={"airflow.x": "1", "airflow.dag": "2", "air.flow": "3"}))
    assert both.sandbox.requests.total == 0


# -- SQL that Arroyo refuses -----------------------------------------------------------------------------------

UNKNOWN_COLUMN = ENDLESS.replace("SELECT counter", "SELECT counterr")
SYNTAX = "\n\nSELEC 1"


def test_refused_sql_is_shown_with_its_place(both: Bench) -> None:
    with pytest.raises(ArroyoQueryError) as caught:
        both.submit(replace(SPEC, query=SYNTAX))
    assert [(one.line, one.column) for one in caught.value.diagnostics] == [(3, 1)]
    text = str(caught.value)
    assert "(line 3, column 1)" in text
    assert "line 3 | SELEC 1\n           ^" in text
    assert "Mend it, then clear this task" in text
    assert caught.value.is_permanent
    assert both.pipelines() == []


def test_refused_sql_with_a_span(new: Bench) -> None:
    with pytest.raises(ArroyoQueryError) as caught:
        new.submit(replace(SPEC, query=UNKNOWN_COLUMN))
    assert "column 'counterr' not found (line 3, column 25)" in str(caught.value)
    assert f"line 3 | {UNKNOWN_COLUMN.splitlines()[2]}\n" in str(caught.value)
    assert str(caught.value).splitlines()[-1] == " " * (11 + 24) + "^" * 8


def test_place_is_right_in_spite_of_our_comment_when_the_validation_fails_too(old: Bench) -> None:
    old.sandbox.faults.status(422, path="*/validate_query", error="not today")
    with pytest.raises(ArroyoQueryError) as caught:
        old.submit(replace(SPEC, query=SYNTAX))
    assert [(one.line, one.column) for one in caught.value.diagnostics] == [(3, 1)]
    assert "at Line: 3, Column: 1" in str(caught.value)
    assert "line 3 | SELEC 1\n           ^" in str(caught.value)


def test_refused_udf(both: Bench) -> None:
    spec = replace(SPEC, udfs=(Udf("fn f(x: i64) -> i64 { x }", "rust"),))
    with pytest.raises(ArroyoQueryError) as caught:
        both.submit(spec)
    assert "annotation #[udf]" in str(caught.value)
    assert both.pipelines() == []


def test_two_submits_of_mapped_tasks_have_ids_of_their_own(both: Bench) -> None:
    owners = [replace(OWNER, map_index=index) for index in range(3)]
    ids = {both.submit(owner=owner).pipeline.id for owner in owners}
    assert len(ids) == 3
    assert {both.submit(owner=owner, try_number=2).pipeline.id for owner in owners} == ids
    assert len(both.running()) == 3


def test_text_that_only_looks_dangerous(both: Bench) -> None:
    owner = Owner(dag_id="d--*/", task_id='t"\\', run_id="r\n'\u2028ü-- ;", map_index=-1)
    spec = replace(SPEC, name='N"\n*/ -- <b>ü', query=f"-- first\n/* ü */ {ENDLESS} -- last")
    first = both.submit(spec, owner=owner).pipeline
    assert (first.name, first.query.endswith(spec.query)) == (spec.name, True)
    assert both.submit(spec, owner=owner, try_number=2).pipeline.id == first.id
    both.the_only_one()
