"""The states of a pipeline, drawn and listed from the table that the sandbox follows.

That table contains what was recorded on real servers. This module only decides where each state is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable

from docutils import nodes
from generated import table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from airflow_provider_arroyo.client.enums import TERMINAL_STATES, JobState
from airflow_provider_arroyo.sandbox import lifecycle
from airflow_provider_arroyo.sandbox.lifecycle import Cause, Transition

S = JobState
WIDTH, HEIGHT, BOX = 960, 470, 46

BOXES: dict[JobState, tuple[int, int, int]] = {
    # The middle of each box, and its width.
    S.CREATED: (55, 215, 90),
    S.COMPILING: (175, 215, 100),
    S.SCHEDULING: (300, 215, 100),
    S.RUNNING: (545, 215, 100),
    S.RESTARTING: (422, 35, 150),
    S.RESCALING: (422, 92, 150),
    S.RECOVERING: (422, 149, 150),
    S.FINISHING: (730, 215, 180),
    S.CHECKPOINT_STOPPING: (730, 275, 180),
    S.STOPPING: (730, 335, 180),
    S.FAILING: (730, 395, 180),
    S.FINISHED: (900, 215, 90),
    S.STOPPED: (900, 305, 90),
    S.FAILED: (900, 395, 90),
}

WORDS = {
    Cause.STOP_CHECKPOINT: "stop: checkpoint",
    Cause.STOP_GRACEFUL: "stop: graceful",
    Cause.STOP_IMMEDIATE: "immediate",
    Cause.STOP_FORCE: "force",
    Cause.RESTART: "restart",
    Cause.ENV_CHANGED: "env_vars changed",
    Cause.RESCALE: "parallelism changed",
    Cause.SOURCE_ENDED: "a source has ended",
    Cause.SOURCE_LOST: "a source",
    Cause.TASK_FAILED: "a task failed",
    Cause.WORKER_LOST: "or worker was lost",
}
"""The captions of the boxes: the causes that lead from Running into them."""

NOT_DRAWN = frozenset(
    # A restarted controller leads from every state to Scheduling; the others are rare.
    {Cause.CONTROLLER_BACK, Cause.CONTROLLER_BACK_STOP, Cause.TTL_OVER, Cause.STOP_UNREACHED}
    | {Cause.RESTART_AND_STOP}
)


def seen() -> list[Transition]:
    """Return the rows of the table that were seen on real servers of the newest version."""
    unseen = {(row.state, row.cause) for row in lifecycle._NOT_SEEN}
    rows = lifecycle.transitions("0.16").values()
    return [row for row in rows if (row.state, row.cause) not in unseen]


def drawing() -> str:
    """Return the drawing, as SVG for a page.

    :raises KeyError: if a state has no place in the drawing.
    """
    pairs = {(row.state, row.to) for row in seen() if row.cause not in NOT_DRAWN}
    lines = [_arrow(state, to) for state, to in sorted(pairs)]
    boxes = [_box(state) for state in JobState]
    labels = [
        '<text x="186" y="448" class="caption">resume or restart: a new run, from the last checkpoint</text>'
    ]
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker>'
    )
    title = "<title>The states of a pipeline, and what leads from one to the next</title>"
    body = "".join([f"<defs>{head}</defs>", *lines, *boxes, *labels])
    return (
        f'<div class="states"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="The states of a pipeline; the table below lists each step">{title}{body}</svg></div>'
    )


def _box(state: JobState) -> str:
    x, y, width = BOXES[state]
    causes = {row.cause for row in seen() if row.to == state and row.state == S.RUNNING}
    caption = ", ".join(WORDS[cause] for cause in Cause if cause in causes and cause in WORDS)
    caption = caption.replace(", or", " or").replace("stop: graceful, ", "graceful, ")
    kind = "bad" if "Fail" in state else "end" if state in TERMINAL_STATES else "way"
    kind = "good" if state in (S.RUNNING, S.FINISHING) else kind
    name_y = y + 5 if not caption else y - 3
    small = f'<text x="{x}" y="{y + 14}" class="caption middle">{caption}</text>' if caption else ""
    return (
        f'<g class="{kind}"><rect x="{x - width / 2}" y="{y - BOX / 2}" width="{width}" height="{BOX}" rx="8"/>'
        f'<text x="{x}" y="{name_y}" class="middle">{state}</text>{small}</g>'
    )


def _arrow(state: JobState, to: JobState) -> str:
    (x1, y1, w1), (x2, y2, w2) = BOXES[state], BOXES[to]
    left, right = x2 - w2 / 2 - 2, x1 + w1 / 2
    below, above = BOX / 2, -BOX / 2
    if state in TERMINAL_STATES:
        # The way back: below everything.
        path = f"M{x1 - 20} {y1 + below} V430 Q{x1 - 20} 455 {x1 - 45} 455 H200 Q{x2} 455 {x2} 430 V{y2 + below + 2}"
        if state is S.STOPPED:
            path = f"M{x1 + w1 / 2} {y1} H950 V430 Q950 455 925 455 H200 Q{x2} 455 {x2} 430 V{y2 + below + 2}"
    elif (state, to) == (S.RUNNING, S.FAILED):
        path = f"M{x1 - 20} {y1 + below} V405 Q{x1 - 20} 430 {x1 + 5} 430 H830 Q850 430 850 412 L853 405"
    elif to is S.SCHEDULING and y1 != y2:
        path = f"M{x1 - w1 / 2} {y1} Q{x2} {y1} {x2} {y2 + above - 2}"
    elif state is S.RUNNING and x2 < x1:
        path = f"M{x1} {y1 + above} Q{x1} {y2} {x2 + w2 / 2 + 2} {y2}"
    elif state is S.RUNNING and y1 != y2:
        path = f"M{x1 + 20} {y1 + below} Q{x1 + 20} {y2} {left} {y2}"
    else:
        path = f"M{right} {y1} L{left} {y2}"
    return f'<path d="{path}" class="step" marker-end="url(#head)"/>'


def steps() -> str:
    """Return all transitions that were seen, as a table in Markdown, without those of a restarted controller."""

    def length(row: Transition) -> str:
        if row.stays is None:
            return "open-ended"
        least, most = row.stays
        return f"{least} to {most} ms" if most < 1000 else f"{least / 1000:.3g} to {most / 1000:.3g} s"

    def rows() -> Iterable[tuple[str, str, str, str]]:
        order = list(JobState)
        for row in sorted(seen(), key=lambda row: (order.index(row.state), list(Cause).index(row.cause))):
            when = "by itself" if row.cause is Cause.TIME else row.cause.value
            if row.cause not in (Cause.CONTROLLER_BACK, Cause.CONTROLLER_BACK_STOP):
                yield f"`{row.state}`", when, f"`{row.to}`", length(row)

    return table(["state", "what happens", "next state", "time in the next state"], rows())


class States(SphinxDirective):
    """``{states}``: the drawing."""

    def run(self) -> list[nodes.Node]:
        """Return it."""
        return [nodes.raw("", drawing(), format="html")]


class Steps(SphinxDirective):
    """``{steps}``: the table."""

    def run(self) -> list[nodes.Node]:
        """Return it."""
        found: list[nodes.Node] = self.parse_text_to_nodes(steps())
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("states", States)
    app.add_directive("steps", Steps)
    return {"parallel_read_safe": True}
