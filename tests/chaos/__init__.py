"""Chaos: what happens to pipelines when everything that can fail does.

``make chaos`` runs all parts and prints a table of figures for each. The exit code is 1 if a figure that must be zero
is not.

``python -m tests.chaos --in-process`` runs thousands of submits, clears and stops through the operators' own code
against the sandbox, in one process for each version of the server (``--tasks 200`` for a short run). A seed decides
the faults, where tries crash and what happens between tries, but not how threads interleave. To run one scenario
again, give ``--seed`` and ``--only``.

The same part watches pipelines (``--pipelines 30``): each has a watcher for its events and a guard, which are killed
and moved between triggerers while the pipelines die, stop and flap.

``python -m tests.chaos --events`` does that in a real Airflow: fifty pipelines die at random while its triggerers are
killed and frozen, and no death may be lost. It is a part of ``--airflow``.

``python -m tests.chaos --airflow`` runs a real Airflow on PostgreSQL with two triggerers, and kills, freezes and
restarts its processes while tasks of all operators run.

``python -m tests.chaos --deploy`` runs deployments, and ``--change`` restarts, updates and deletes: they are killed
at any request, lose responses or race each other.

The figures come from the state of the sandbox itself, never from what a task reports:

- *pipelines wanted, created*: pipelines that tasks were to create, and those that exist at the end.
- *duplicated*: pipelines that exist twice.
- *lost*: pipelines that should exist and be Running, Finished or Stopped, and are not.
- *false success*: tasks that succeeded although their pipeline was not in the state and run of their result.
- *unwanted stop*: requests to stop a pipeline that was not to be stopped.
- *unproven checkpoint*: final checkpoints that a task reported and the server never took.
- *not finished*: tasks that did not succeed, however often they were tried.
- *lost event, false event*: deaths that no event reports, and events of what never happened.
- *repeat under another id*: events that report the same death twice, with different ids.
- *guard missed it, guard ended wrongly*: sensors that did not end although their pipeline died, stopped or flapped,
  or that ended with the wrong result.
- *outcome not logged*: killed waits whose log does not state what happens to the pipeline.
"""
