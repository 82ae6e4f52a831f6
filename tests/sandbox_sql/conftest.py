"""What holds for all tests of the sandbox's SQL."""

from __future__ import annotations

from tests.sandbox import profiles  # noqa: F401  # sets how the property tests draw
