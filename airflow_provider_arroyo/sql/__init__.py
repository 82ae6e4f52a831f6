"""Reads Arroyo's SQL with sqlglot, for the sandbox and for lineage. Needs one of the extras that install sqlglot."""
