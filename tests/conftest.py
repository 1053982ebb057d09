"""What every test shares: how long hypothesis searches.

`fast` (the default) is for every run and judges no test by the clock: a busy machine is not a bug. `deep` is for a
night: HYPOTHESIS_PROFILE=deep.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("fast", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", parent=settings.get_profile("fast"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
