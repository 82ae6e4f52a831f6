"""Chaos: what becomes of pipelines when everything that can be cut off, is.

``make chaos`` runs two parts and prints a table of figures for each; the exit code is not zero when a figure
that must be zero is not.

``python -m tests.chaos --in-process`` runs thousands of submits, clears and stops through the operators' own
code against the sandbox, both server versions, in one process of each. The faults, the deaths of tries and
what happens between tries are drawn from a seed; how threads interleave is the machine's doing. Who wants a
story again gives ``--seed`` and ``--only``.

``python -m tests.chaos --airflow`` runs a real Airflow on PostgreSQL with two triggerers, and kills, stops and
restarts its processes while tasks of all operators are under way.

The figures, all judged by what the sandbox itself knows and never by what a task said:

- *wanted, made*: pipelines that tasks were to bring about, and those that are there at the end.
- *doubled*: pipelines that are there twice.
- *lost*: pipelines that should be there and running, finished or stopped, and are not.
- *false success*: tasks that ended green while their pipeline was not what they said, in the run they said.
- *stopped by accident*: requests to stop a pipeline that nobody wanted stopped.
- *checkpoint claimed*: final checkpoints that a task reported and the server never made.
- *not ended*: tasks that did not come to an end, however often they were tried.
"""
