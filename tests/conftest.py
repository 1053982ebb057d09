"""What every test shares: how long hypothesis searches, whose assertions explain themselves, which files come first.

`fast` (the default) is for every run: always the same examples, so that a run says something about the change before
it and not about luck, and no test is judged by the clock: a busy machine is not a bug. `deep` looks for new examples
and is for a night: HYPOTHESIS_PROFILE=deep.
"""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is loaded: on small models more threads only spin

import pytest
from hypothesis import HealthCheck, settings

from hatch_build import compiled_modules
from proxy.version import build

settings.register_profile(
    "fast", max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# A shell starts what is in its background with SIGINT ignored, and processes inherit that: the servers that tests start
# and interrupt would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("tests.harness.sdk", "tests.harness.sdk_contract")

_LONGEST = (
    "acceptance/test_replicas_story.py",
    "acceptance/test_demo.py",
    "docs/test_tutorial.py",
    "web/console/test_pages.py",
    "docs/test_personas.py",
    "acceptance/test_survival.py",
    "dashboards/test_dashboards.py",
    "docs/test_client_pages.py",
    "acceptance/test_replicas.py",
    "contract/store/test_replay_stages.py",
    "simulation/test_ramps.py",
    "acceptance/test_story.py",
    "contract/store/test_signals.py",
    "examples/test_prompt.py",
    "acceptance/test_guards.py",
    "app/test_shutdown.py",
    "acceptance/test_database_troubles.py",
    "acceptance/test_failover.py",
    "acceptance/test_judge.py",
    "contract/store/test_past.py",
    "web/console/test_datasets.py",
    "acceptance/test_storm.py",
    "simulation/test_watched.py",
    "app/test_supervisor.py",
    "telemetry/test_service.py",
    "acceptance/test_replicas_cut.py",
    "checks/test_holds.py",
    "contract/store/test_replay.py",
    "web/test_open_webui.py",
    "docs/test_release.py",
    "acceptance/test_cases.py",
    "acceptance/test_deletion.py",
    "acceptance/test_thumbs_elsewhere.py",
    "acceptance/test_starts.py",
    "contract/store/test_conversation_votes.py",
    "loop/test_brakes.py",
    "acceptance/test_move.py",
    "contract/store/test_failover.py",
    "loop/test_crashes.py",
)
"""Files that take about half a minute, the longest first: one that begins late is waited for by idle processes."""


def pytest_configure() -> None:
    """Refuse to test what is compiled of sources that have changed since: also where pytest is told to be quiet, and
    then prints no header."""
    root = Path(__file__).resolve().parents[1]
    if build() == "compiled" and (libraries := [*root.glob("*__mypyc*.so")]):
        made = min(library.stat().st_mtime for library in libraries)
        changed = [name for name in compiled_modules(root) if (root / name).stat().st_mtime > made]
        if changed:
            raise pytest.UsageError(f"{changed[0]} has changed since it was compiled: run `make fast`, or `make pure`")


def pytest_report_header() -> str:
    """Which of the two builds is tested."""
    return f"hot path: {build()}"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes that are no short text are named after their argument: compressed ones hold the time they were made at, and
    processes that share a run's tests must all find the same names."""
    if isinstance(val, bytes) and (len(val) > 60 or not val.isascii() or not val.decode().isprintable()):
        return argname
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they were found."""
    tests = Path(__file__).parent
    turns = {tests / name: turn for turn, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: turns.get(item.path, len(turns)))


def pytest_collection_finish() -> None:
    """What has been collected stays until the end: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
