"""Sensors: tasks that only look."""
