"""How the property tests draw: the same examples in each run, or with ``make fuzz`` others, and many more.

Importing it sets the default; ``pytest -p tests.profiles`` does so before any test is collected.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile(
    "fuzz", max_examples=int(os.environ.get("FUZZ_EXAMPLES", "2000")), deadline=None, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
