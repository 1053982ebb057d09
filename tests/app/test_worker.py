"""What a worker does before it serves."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIMITED = """
import resource
from proxy.app.worker import allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
allow_files({connections})
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("hard", "connections", "allowed", "told"),
    [(1024, 300, 856, False), (512, 300, 512, False), (128, 300, 128, True)],
)
def test_there_is_room_for_as_many_clients_as_may_come(hard: int, connections: int, allowed: int, told: bool) -> None:
    program = LIMITED.format(hard=hard, connections=connections)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(allowed), str(hard)]
    assert ("less than gateway.max_connections (300)" in done.stderr) is told
