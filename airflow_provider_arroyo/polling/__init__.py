"""Polls pipelines for waits: one loop in a worker, one shared poller for each connection in a triggerer."""
