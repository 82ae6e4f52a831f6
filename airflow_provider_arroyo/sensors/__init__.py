"""Sensors: tasks that wait, and change nothing."""
