"""What every test shares: how long hypothesis searches, and whose assertions explain themselves.

`fast` (the default) is for every run: always the same examples, so that a run says something about the change before
it and not about luck, and no test is judged by the clock: a busy machine is not a bug. `deep` looks for new examples
and is for a night: HYPOTHESIS_PROFILE=deep.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fast", max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

pytest.register_assert_rewrite("tests.harness.sdk", "tests.harness.sdk_contract")
