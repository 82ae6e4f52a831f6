"""Operators: tasks that change pipelines and wait for the effect."""
