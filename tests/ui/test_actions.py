"""Actions on a pipeline: confirmation, state changes, the audit log; orphans; the task's tab; the keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from airflow_provider_arroyo.pipelines.ownership import Deployment, Owner, OwnershipLabel
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .site import Site, Visitor, create

expect = pytest.importorskip("playwright.sync_api").expect

NAME = "walked_through"


@pytest.fixture
def walked(demo: ArroyoSandbox) -> Iterator[str]:
    pipeline_id = create(demo, NAME)
    yield pipeline_id
    demo.faults.delete(pipeline_id, after=0)


def test_stop_resume_restart_rescale_and_delete(admin: Visitor, site: Site, walked: str) -> None:
    admin.open_list(f"&q={NAME}")
    expect(admin.state(NAME)).to_have_text("Running")

    dialog = admin.choose(NAME, "Stop")
    expect(dialog).to_contain_text(NAME)
    expect(dialog).to_contain_text("It can be resumed exactly where it was")
    admin.shot("stop")
    assert admin.faults() == []
    admin.confirm(dialog, "Stop pipeline")
    expect(admin.row(NAME).locator(".progress")).to_be_visible()
    expect(admin.state(NAME)).to_have_text("Stopped")

    admin.act(NAME, "Resume", "Resume pipeline")
    expect(admin.state(NAME)).to_have_text("Running")

    dialog = admin.choose(NAME, "Restart")
    expect(dialog).to_contain_text("Its output pauses")
    admin.confirm(dialog, "Restart pipeline")
    expect(admin.row(NAME).locator(".progress.ok")).to_contain_text("running again")

    dialog = admin.choose(NAME, "Change parallelism")
    dialog.get_by_label("Parallelism").fill("0")
    expect(dialog.get_by_role("button", name="Change parallelism")).to_be_disabled()
    dialog.get_by_label("Parallelism").fill("3")
    admin.confirm(dialog, "Change parallelism")
    expect(admin.row(NAME).locator(".progress.ok")).to_contain_text("running again")

    admin.act(NAME, "Stop", "Stop pipeline")
    expect(admin.state(NAME)).to_have_text("Stopped")
    dialog = admin.choose(NAME, "Delete")
    expect(dialog).to_contain_text("cannot be undone")
    admin.shot("delete")
    admin.confirm(dialog, "Delete pipeline")
    expect(admin.page.locator("tr.row")).to_have_count(0)

    for action, count in {"stop": 2, "resume": 1, "restart": 1, "rescale": 1, "delete": 1}.items():
        rows = [(row["owner"], json.loads(row["extra"])) for row in site.audit(f"arroyo.{action}")]
        mine = [(owner, extra["arroyo_response"]) for owner, extra in rows if extra["pipeline_name"] == NAME]
        assert mine == [("admin", "accepted")] * count
    ends = [json.loads(row["extra"]) for row in site.audit("arroyo.stop.ended")]
    assert [end["outcome"] for end in ends if end["pipeline_name"] == NAME][:1] == ["reached"]


def test_a_refusal_is_shown_and_logged(admin: Visitor, site: Site, demo: ArroyoSandbox, walked: str) -> None:
    admin.open_list(f"&q={NAME}")
    expect(admin.state(NAME)).to_have_text("Running")
    fault = demo.faults.status(
        409, path=f"*/pipelines/{walked}/restart", error="cannot restart job job_1: not just now"
    )
    dialog = admin.choose(NAME, "Restart")
    dialog.get_by_role("button", name="Restart pipeline").click()
    expect(dialog.get_by_role("alert")).to_contain_text("not just now")
    demo.faults.remove(fault)
    dialog.get_by_role("button", name="Cancel").click()
    assert "not just now" in json.loads(site.audit("arroyo.restart")[0]["extra"])["arroyo_response"]


def test_an_action_whose_response_was_lost_is_followed_but_not_repeated(
    admin: Visitor, demo: ArroyoSandbox, walked: str
) -> None:
    admin.open_list(f"&q={NAME}")
    expect(admin.state(NAME)).to_have_text("Running")
    path = f"*/pipelines/{walked}/restart"
    fault = demo.faults.status(504, path=path, error=None, after_effect=True)
    dialog = admin.choose(NAME, "Restart")
    dialog.get_by_role("button", name="Restart pipeline").click()
    expect(dialog.get_by_role("alert")).to_contain_text("may have been carried out")
    expect(dialog.get_by_role("button")).to_have_text(["Close"])
    admin.shot("lost")
    assert admin.faults() == []
    demo.faults.remove(fault)
    dialog.get_by_role("button", name="Close").click()
    expect(admin.row(NAME).locator(".progress.ok")).to_contain_text("running again")
    assert demo.requests.count("POST", path) == 1


def test_every_action_works_with_the_keyboard(admin: Visitor, walked: str) -> None:
    admin.open_list(f"&q={NAME}")
    expect(admin.state(NAME)).to_have_text("Running")
    button = admin.row(NAME).get_by_role("button", name="Actions on")
    button.focus()
    admin.page.keyboard.press("Enter")
    expect(admin.page.get_by_role("menuitem", name="Stop")).to_be_focused()
    admin.page.keyboard.press("ArrowDown")
    expect(admin.page.get_by_role("menuitem", name="Restart")).to_be_focused()
    admin.page.keyboard.press("Escape")
    expect(button).to_be_focused()
    admin.page.keyboard.press("Enter")
    expect(admin.page.get_by_role("menuitem", name="Stop")).to_be_focused()
    admin.page.keyboard.press("Enter")
    expect(admin.page.get_by_role("dialog")).to_be_visible()
    admin.page.keyboard.press("Escape")
    expect(admin.page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()


def label(
    dag_id: str, run_id: str, task_id: str = "submit", deployment: Deployment | None = None
) -> dict[str, str]:
    return OwnershipLabel(
        task=Owner(dag_id=dag_id, task_id=task_id, run_id=run_id),
        try_number=1,
        package_version="1",
        deployment=deployment,
        generation=1 if deployment else 0,
    ).to_tags()


def test_owners_are_linked_and_orphans_can_be_found(admin: Visitor, site: Site, demo: ArroyoSandbox) -> None:
    run_id = site.run_with_xcoms("submit")
    create(demo, "owned", tags=label("shop", run_id))
    create(demo, "of_no_dag", tags=label("gone", run_id))
    create(demo, "of_no_run", tags=label("shop", "manual__gone"))
    create(demo, "of_no_task", tags=label("shop", run_id, task_id="removed"))
    deployment = Deployment(group="orders", name="deployed")
    create(demo, "deployed", tags=label("renamed", run_id, deployment=deployment))
    admin.open_list()
    owner = admin.row("owned").locator(".c-owner a")
    expect(owner).to_contain_text("shop.submit")
    admin.page.get_by_label("Filter by owner").select_option("dag:gone")
    expect(admin.page.locator("tr.row")).to_have_count(1)
    admin.page.get_by_role("button", name="Clear filters").click()

    admin.page.get_by_label("Orphans only").check()
    expect(admin.page.locator("tr.row")).to_have_count(4)
    expect(admin.row("deployed")).to_contain_text("first DAG is gone")
    expect(admin.row("deployed").get_by_title("Another DAG may deploy it now")).to_be_visible()
    expect(admin.row("of_no_dag")).to_contain_text("its DAG is gone")
    expect(admin.row("of_no_run")).to_contain_text("its run is gone")
    expect(admin.row("of_no_task")).to_contain_text("its task is gone")
    admin.shot("orphans")
    assert admin.faults() == []
    for name in ("deployed", "of_no_dag", "of_no_run", "of_no_task"):
        admin.act(name, "Stop", "Stop pipeline")
        expect(admin.state(name)).to_have_text("Stopped")
        admin.act(name, "Delete", "Delete pipeline")
        expect(admin.row(name)).to_have_count(0)

    admin.page.get_by_label("Orphans only").uncheck()
    admin.row("owned").locator(".c-owner a").click()
    admin.page.wait_for_url("**/dags/shop/runs/*/tasks/submit**")


def test_the_tab_of_a_task_shows_its_pipeline_and_states(admin: Visitor, site: Site, walked: str) -> None:
    seen = [
        {"at": f"2026-11-28T10:00:0{second}Z", "state": state, "run_id": 1, "job_id": "job_1"}
        for second, state in ((0, "Created"), (1, "Scheduling"), (4, "Running"))
    ]
    run_id = site.run_with_xcoms("submit", pipeline_id=walked, pipeline_name=NAME, arroyo_transitions=seen)
    admin.open(f"dags/shop/runs/{run_id}/tasks/submit/plugin/arroyo_pipeline")
    card = admin.page.get_by_role("region", name="The pipeline now")
    expect(card).to_contain_text(NAME)
    expect(card.locator(".word")).to_have_text("Running")
    steps = admin.page.get_by_role("region", name="States this task saw").get_by_role("listitem")
    expect(steps).to_have_count(3)
    expect(steps.nth(1)).to_contain_text("Scheduling")
    expect(steps.nth(1)).to_contain_text("for 3.0 s")
    # The charts of the pipeline's own page, small.
    expect(admin.section("Graph").locator(".node").first).to_be_visible()
    expect(admin.section("Checkpoints")).to_be_visible()
    assert admin.faults() == []
    admin.shot("task", whole=True)
    card.get_by_role("link", name="Open pipeline page").click()
    expect(admin.page.get_by_role("heading", name=NAME)).to_be_visible()
    admin.page.wait_for_url(f"**/plugin/arroyo/pipelines/{walked}?connection=arroyo_default")


def test_the_tab_of_a_task_without_a_pipeline_says_so(admin: Visitor, site: Site) -> None:
    run_id = site.run_with_xcoms("submit")
    admin.open(f"dags/shop/runs/{run_id}/tasks/report/plugin/arroyo_pipeline")
    expect(admin.page.get_by_text("This task has no Arroyo pipeline yet")).to_be_visible()
    admin.shot("task-without")
