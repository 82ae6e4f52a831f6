"""Operators: tasks that change pipelines and wait for what follows."""
