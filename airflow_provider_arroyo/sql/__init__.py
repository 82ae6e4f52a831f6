"""Reads Arroyo's SQL, by sqlglot: for the sandbox, and for lineage. Needs one of the extras that bring it."""
