"""How property tests choose their examples: the same in each run, or with ``make fuzz`` many random ones.

Importing this module sets the profile; ``pytest -p tests.profiles`` does so before tests are collected.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile(
    "fuzz", max_examples=int(os.environ.get("FUZZ_EXAMPLES", "2000")), deadline=None, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
