"""Prunes of a group: what they delete, and what they never touch."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.exceptions import ArroyoAuthError, ArroyoDeployError, ArroyoError
from airflow_provider_arroyo.operators.prune import ArroyoPrunePipelinesOperator
from airflow_provider_arroyo.pipelines.existing import Existing
from airflow_provider_arroyo.pipelines.kept import names_to_keep
from airflow_provider_arroyo.pipelines.ownership import Namespace
from airflow_provider_arroyo.pipelines.prune import Pruned, prune
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.pipelines.deploy_bench import OTHER_TASK, SECOND, SPEC, TASK, DeployBench, open_deploy_bench
from tests.support import BOUNDED, NOT_FITTING, NOT_TERMINAL, ONE_ENDS


def named(name: str) -> Any:
    return replace(SPEC, name=name)


def run(bench: DeployBench, keep: Collection[str], **more: Any) -> Pruned:
    given: dict[str, Any] = {"group": "default", "namespace": Namespace(), "max_deletions": 10, **more}
    return prune(bench.client, keep=keep, **given)


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_only_pipelines_that_are_no_longer_wanted_are_deleted(version: str) -> None:
    with open_deploy_bench(version) as bench:
        for name in ("orders", "old", "stopped"):
            bench.deploy(named(name))
        bench.deploy(named("theirs"), group="theirs")
        bench.deploy(named("elsewhere"), namespace="staging", is_explicit=True)
        bench.deploy(replace(SECOND, name="old"), keep_old=True)
        bench.submit(named("submitted"))
        unlabelled = bench.create_externally(named("by hand"))
        # A copy of a deployed pipeline under another name has its label on 0.15, and its tags on 0.16.
        (old, *_) = [one for one in bench.pipelines() if one.name == "orders"]
        fields = {**named("copy").to_request(query=old.query), "tags": old.tags}
        copy = bench.client.create_pipeline(**fields)
        (stopped,) = [one for one in bench.pipelines() if one.name == "stopped"]
        bench.change(stopped.id, "stop", "Stopped")
        before = {one.id for one in bench.pipelines()}

        message = run(bench, ["orders", "not there"], dry_run=True)
        assert {one.id for one in bench.pipelines()} == before
        pruned = run(bench, ["orders", "not there"])

        left = {one.name for one in bench.pipelines()}
        assert left == {"orders", "theirs", "elsewhere", "submitted", unlabelled.name, copy.name}
        assert sorted(one.name for one in pruned.deleted) == ["old", "old", "stopped"]
        assert pruned == message
        assert pruned.kept == ("orders",)
        assert bench.lines.text().count("No longer wanted in group default: old, stopped") == 2
        assert run(bench, ["orders"]).deleted == ()


def test_more_deletions_than_max_deletions_are_an_error() -> None:
    with open_deploy_bench("0.16") as bench:
        for name in ("a", "b", "c"):
            bench.deploy(named(name))
        words = (
            "has 2 pipelines that are no longer wanted, but max_deletions allows 1: a, b. Nothing was changed"
        )
        with pytest.raises(ArroyoDeployError, match=re.escape(words)) as caught:
            run(bench, ["c"], max_deletions=1)
        assert caught.value.is_fatal
        assert len(bench.running()) == 3
        with pytest.raises(
            ValueError, match="an empty list, as from an empty folder, would delete the whole group"
        ):
            run(bench, [])
        assert len(bench.running()) == 3


def test_an_unreadable_label_is_left_alone() -> None:
    with open_deploy_bench("0.15") as bench:
        bench.create_externally(named("newer"), comment='-- airflow: {"label": "99"}\n')
        assert run(bench, ["x"]).deleted == ()
        assert "is left alone: its ownership label" in bench.lines.text("WARNING")


def test_an_interrupted_prune_can_be_continued() -> None:
    with open_deploy_bench("0.16") as bench:
        for name in ("a", "b", "c"):
            bench.deploy(named(name))
        bench.sandbox.faults.status(400, times=1, method="DELETE", error=NOT_TERMINAL)
        with pytest.raises(Exception, match=NOT_TERMINAL):
            run(replace_client(bench), ["c"])
        run(bench, ["c"])
        assert [one.name for one in bench.pipelines()] == ["c"]


def test_a_pipeline_that_does_not_stop_does_not_prevent_other_deletions() -> None:
    with open_deploy_bench("0.16") as bench:
        for name in ("a", "b", "c", "d"):
            bench.deploy(named(name))
        (stuck,) = [one.id for one in bench.pipelines() if one.name == "b"]
        bench.sandbox.faults.show_state(stuck, "Hibernating")
        with pytest.raises(ArroyoDeployError) as caught:
            run(bench, ["d"])
        for words in (
            "Of 3 pipelines",
            "1 were not deleted",
            f"b ({stuck}): Pipeline '{stuck}' has not stopped",
        ):
            assert words in str(caught.value)
        assert sorted(one.name for one in bench.pipelines()) == ["b", "d"]
        bench.sandbox.faults.release(stuck)
        assert [one.name for one in run(bench, ["d"]).deleted] == ["b"]


def test_a_pipeline_that_becomes_finishing_is_stopped_immediately() -> None:
    """A stop with a checkpoint would have no effect."""
    with open_deploy_bench("0.16") as bench:
        bench.deploy(named("b"))
        made = bench.create_externally(replace(SPEC, query=ONE_ENDS))
        bench.change(made.id, "Finishing")
        bench.sandbox.faults.show_state(made.id, "Running", seconds=1)
        Existing(bench.client).stop(made.id)
        assert bench.job(made.id).state == "Finished"


def test_an_error_lists_what_was_not_deleted() -> None:
    with open_deploy_bench("0.16") as bench:
        for name in ("a", "b", "c"):
            bench.deploy(named(name))
        (a, b) = [next(one.id for one in bench.pipelines() if one.name == name) for name in ("a", "b")]
        bench.sandbox.faults.status(422, path=f"*/{b}", method="DELETE", error=NOT_FITTING)
        bench.sandbox.faults.status(403, path=f"*/{a}*", times=None)
        with pytest.raises(ArroyoAuthError) as caught:
            run(bench, ["c"])
        assert "forbids this (403)" in str(caught.value)
        assert f"\nNot deleted before that:\n  b ({b}): " in str(caught.value)


def test_a_stop_in_two_steps_has_one_limit() -> None:
    with open_deploy_bench("0.16") as bench:
        made = bench.create_externally(replace(SPEC, query=ONE_ENDS))
        bench.change(made.id, "Finishing")
        bench.sandbox.faults.show_state(made.id, "Running")
        began = bench.now()

        def sleep(seconds: float) -> None:
            bench.sandbox.advance(seconds)
            if bench.now() - began > 100 and bench.sandbox.state(made.id) == "Running":
                bench.sandbox.faults.show_state(made.id, "Finishing")

        with pytest.raises(ArroyoError, match="has not stopped within 120 s"):
            Existing(bench.new_client(sleep=sleep)).stop(made.id)
        assert 120 <= bench.now() - began < 125


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("name", ["stop", "remove"])
def test_a_stop_that_is_withdrawn_is_reported_soon(name: str, version: str) -> None:
    with open_deploy_bench(version) as bench:
        made = bench.create_externally(SPEC)
        bench.change(made.id, "Running")
        began = bench.now()

        def sleep(seconds: float) -> None:
            bench.sandbox.advance(seconds)
            if bench.job(made.id).running_desired is False:
                bench.change(made.id, "resume")
                bench.sandbox.faults.show_state(made.id, "Running", seconds=30)

        with pytest.raises(ArroyoError, match="was asked to run again while this task waited for its stop"):
            getattr(Existing(bench.new_client(sleep=sleep)), name)(made.id)
        assert 5 <= bench.now() - began < 15
        assert [one.id for one in bench.pipelines()] == [made.id]


# -- renames ------------------------------------------------------------------------------------------------

IN_OTHER_WORDS = replace(SPEC, query="-- pipelines/new.sql\n" + SPEC.query.replace("\n", "\n\n  "))


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("spec", [SPEC, IN_OTHER_WORDS], ids=["same text", "other spacing"])
def test_a_renamed_pipeline_is_kept_until_the_user_decides(version: str, spec: PipelineSpec) -> None:
    with open_deploy_bench(version) as bench:
        old = bench.deployed()
        new = bench.deploy(replace(spec, name="new"), task=OTHER_TASK).pipeline
        assert new is not None
        which = f"'orders' of group 'default' ({old.id})"
        assert f"{which} has the same SQL as the new pipeline" in bench.lines.text("WARNING")
        for is_dry in (True, False):
            with pytest.raises(ArroyoDeployError) as caught:
                run(bench, ["new"], dry_run=is_dry)
            assert caught.value.is_fatal
            assert f"\n  {which}: now 'new' of group 'default' ({new.pipeline_id})\n" in str(caught.value)
            assert "To keep the old one, give the file the setting pipeline_name" in str(caught.value)
        assert bench.running() == {old.id, new.pipeline_id}
        # The file now has the setting pipeline_name: orders.
        assert bench.deploy(task=OTHER_TASK).progress.action == "unchanged"
        assert [one.id for one in run(bench, ["orders"]).deleted] == [new.pipeline_id]


def test_a_file_that_was_moved_to_another_group_is_a_rename() -> None:
    with open_deploy_bench("0.16") as bench:
        old = bench.deployed()
        bench.deployed(spec=replace(SECOND, name="other"))
        bench.deployed(spec=replace(SPEC, name="removed", query=SPEC.query.replace("'10'", "'30'")))
        new = bench.deployed(group="shop", task=OTHER_TASK)
        with pytest.raises(ArroyoDeployError, match=f"now 'orders' of group 'shop' .{new.id}"):
            run(bench, ["other"])
        # A renamed pipeline does not prevent the others from being deleted.
        assert {one.name for one in bench.pipelines()} == {"orders", "other"}
        # Another Airflow deploys the same files, and may prune its own.
        bench.deploy(namespace="b", is_explicit=True, task=OTHER_TASK)
        assert run(bench, ["x"], group="shop", namespace=Namespace(name="b")).deleted == ()
        assert old.id in bench.running()
        # The old one was deleted externally.
        bench.change(old.id, "stop", "Stopped")
        bench.client.delete_pipeline(old.id)
        assert run(bench, ["other"]).deleted == ()


def test_a_rename_is_detected_before_the_new_name_is_deployed() -> None:
    """A prune may precede the deploy, or follow a failed one."""
    with open_deploy_bench("0.16") as bench:
        old = bench.deployed()
        with pytest.raises(ArroyoDeployError, match=f"{old.id}.: now 'new', which is not deployed yet"):
            run(bench, ["new"], queries={"new": IN_OTHER_WORDS.query})
        assert run(bench, ["new"], queries={"new": SECOND.query}).deleted[0].id == old.id


def test_a_renamed_pipeline_that_is_deleted_during_a_prune_does_not_stop_it() -> None:
    with open_deploy_bench("0.16") as bench:
        old = bench.deployed()
        bench.change(old.id, "stop", "Stopped")

        class Deletes(dict[str, str]):
            def items(self) -> Any:
                bench.client.delete_pipeline(old.id)
                return super().items()

        run(bench, ["new"], queries=Deletes(new=SPEC.query))
        assert bench.pipelines() == []


def test_copies_that_one_run_deployed_are_several_pipelines() -> None:
    """A run that is cleared after a rename deploys the new pipeline much later."""
    with open_deploy_bench("0.16") as bench:
        for name in ("a", "b", "c"):
            bench.deploy(named(name))
        assert "has the same SQL" not in bench.lines.text("WARNING")
        assert [one.name for one in run(bench, ["b", "c"], queries={"b": SPEC.query}).deleted] == ["a"]
        bench.sandbox.advance(3700)
        bench.deploy(named("d"))
        with pytest.raises(ArroyoDeployError, match=r"'b' of group .* now 'd' of group"):
            run(bench, ["c", "d"])


def test_a_finished_pipeline_has_no_state_to_lose() -> None:
    with open_deploy_bench("0.16") as bench:
        for name, task in (("a", TASK), ("b", OTHER_TASK)):
            bench.deploy(replace(SPEC, name=name, query=BOUNDED), task=task, until_checkpoint=False)
            bench.change(bench.pipelines()[0].id, "Finished")
        assert [one.name for one in run(bench, ["b"]).deleted] == ["a"]


def test_only_the_current_version_is_compared() -> None:
    """A kept earlier version is older than a pipeline that adopted its SQL."""
    with open_deploy_bench("0.16") as bench:
        bench.deployed()
        bench.deploy(SECOND, keep_old=True)
        bench.deployed(spec=named("b"), task=OTHER_TASK)
        assert [one.name for one in run(bench, ["b"]).deleted] == ["orders", "orders"]


def test_a_name_that_existed_before_is_not_a_rename() -> None:
    """Two groups have one file each; both are edited, and now have the same SQL."""
    with open_deploy_bench("0.16") as bench:
        third = replace(SPEC, query=SPEC.query.replace("'10'", "'30'"))
        for group, task in (("a", TASK), ("b", OTHER_TASK)):
            bench.deployed(spec=SPEC if group == "a" else third, group=group, task=task)
        bench.deployed(spec=SECOND, group="a", task=replace(TASK, run_id="r3"))
        bench.deployed(spec=SECOND, group="b", task=replace(TASK, run_id="r4"))
        bench.deployed(spec=replace(third, name="other"), group="a", task=OTHER_TASK)
        assert [one.name for one in run(bench, ["other"], group="a").deleted] == ["orders"]
        # A kept older version is not a new name either.
        bench.deployed(spec=named("c"), group="c", task=OTHER_TASK)
        bench.deployed(spec=replace(SECOND, name="c"), group="c", task=OTHER_TASK, keep_old=True)
        bench.deployed(spec=named("d"), group="a", task=replace(TASK, run_id="r0"))
        assert [one.name for one in run(bench, ["other"], group="a").deleted] == ["d"]


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("steps", [("stop", "Stopped"), ("fail", 10.0)], ids=["stopped", "failed"])
def test_a_renamed_stopped_pipeline_keeps_its_state(version: str, steps: tuple[str | float, ...]) -> None:
    with open_deploy_bench(version) as bench:
        old = bench.deployed()
        bench.change(old.id, *steps)
        bench.deploy(named("new"), task=OTHER_TASK)
        assert "has the same SQL" not in bench.lines.text()
        # But its state is not dropped.
        with pytest.raises(ArroyoDeployError, match="now 'new' of group"):
            run(bench, ["new"])


def test_pipelines_that_a_later_run_deployed_are_kept() -> None:
    """Concurrent runs, or a cleared prune of yesterday: the list to keep is older than the deployed pipelines."""
    with open_deploy_bench("0.16") as bench:
        for name in ("a", "old", "replaced"):
            bench.deploy(named(name))
        bench.sandbox.advance(2)
        began = bench.now()
        bench.sandbox.advance(2)
        bench.deploy(replace(SECOND, name="new"))
        bench.deploy(replace(SECOND, name="replaced"), keep_old=True)
        pruned = run(bench, ["a"], list_age=timedelta(seconds=bench.now() - began))
        assert ([one.name for one in pruned.deleted], pruned.kept) == (["old"], ("a", "new", "replaced"))
        assert len(bench.pipelines()) == 4
        assert "Left alone: new was deployed after this DAG run was due" in bench.lines.text("WARNING")
        assert {one.name for one in run(bench, ["a"], list_age=timedelta(0)).deleted} == {"new", "replaced"}


def test_the_sql_to_keep_is_compared_but_not_shown() -> None:
    keep = [{"pipeline_name": "a", "group": "shop", "query": "SELECT 1"}, {"pipeline_name": "b"}]
    task = ArroyoPrunePipelinesOperator(task_id="prune", group="shop", keep=keep)
    task.render_template_fields({})
    assert task._queries == {"a": "SELECT 1"}
    assert "SELECT" not in str(task.keep)


def replace_client(bench: DeployBench) -> DeployBench:
    """Make each refusal final."""
    for _ in range(4):
        bench.sandbox.faults.status(400, times=1, method="DELETE", error=NOT_TERMINAL)
    return bench


@pytest.mark.parametrize(
    "keep,names",
    [
        (["a", "b"], {"a", "b"}),
        ([{"pipeline_name": "a", "query": "SELECT 1"}], {"a"}),
        (("a",), {"a"}),
    ],
)
def test_keep_accepts_names_or_pipelines_of_a_folder(keep: Any, names: set[str]) -> None:
    assert names_to_keep(keep) == names


@pytest.mark.parametrize("groups", [["clicks"], ["orders", "clicks"]])
def test_pipelines_of_another_groups_folder_are_an_error(groups: list[str]) -> None:
    """Every pipeline of the pruned group would be deleted."""
    keep = [{"pipeline_name": "a", "group": group} for group in groups]
    task = ArroyoPrunePipelinesOperator(task_id="prune", group="orders", keep=keep)
    task.render_template_fields({})
    with pytest.raises(
        ValueError, match="keep has pipelines of group 'clicks', but group 'orders' is pruned"
    ):
        names_to_keep(task.keep, task.group)


@pytest.mark.parametrize("keep", ["a", {"a": 1}, 5])
def test_other_types_of_keep_are_refused(keep: Any) -> None:
    with pytest.raises(ValueError, match="keep must be a list of names, or of pipelines of a folder, got"):
        names_to_keep(keep)


@pytest.mark.parametrize(
    "keep", [[1], [""], [{"query": "SELECT 1"}], ["a", "None"], ["null"], ["['a', 'b']"], ["a\n"], [" a"]]
)
def test_other_names_in_keep_are_refused(keep: Any) -> None:
    """Templates render to some of these, and none is the name of a pipeline: the prune would delete them all."""
    with pytest.raises(ValueError, match="a name in keep must"):
        names_to_keep(keep)


@pytest.mark.parametrize(
    "given,words",
    [
        ({"keep": []}, "keep must name at least one pipeline"),
        ({"keep": ["a"], "group": " "}, "group must not be empty"),
        ({"keep": ["a"], "group": "a "}, "group must not have white space around it"),
        ({"keep": ["a"], "dry_run": "no"}, "dry_run must be True or False"),
    ],
)
def test_invalid_arguments_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ArroyoPrunePipelinesOperator(task_id="prune", **given)
