"""Decides whether a wait is over. Does no I/O and owns no clock."""
