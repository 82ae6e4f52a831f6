"""Decides whether a wait is over. Does no I/O of its own and owns no clock."""
