"""Polls pipelines for waits: one loop in a worker, one shared poller for each connection in a triggerer.

The worker's loop is in ``poll``. In a triggerer, waits use ``shared``: ``job_polls`` sends their polls, and
``waiters`` are the waits and their pipelines. Both modes read the ``details`` of jobs, look up ``names``, and use the
client by ``connection``.
"""
