"""Load from wrk: all that fits, or a rate that is the same for every proxy, however quick its answers are.

At full load a slow proxy is charged twice, for its neighbours fall asleep and it has to wake them; at one rate for all
only the work counts. wrk has no rates of its own. Here each connection that is free takes the next turn of one
timetable (10,000 turns a second: one each 0.1 ms) and waits until that has come.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.bench.processes import pinned

__all__ = ["CONNECTIONS", "RATE", "REQUEST", "wrk"]

REQUEST = json.dumps(
    {"model": "m", "user": "user-1234", "messages": [{"role": "user", "content": "What is 65816 assembly? " * 12}]}
)
CONNECTIONS = 32
RATE = 10_000
"""Requests a second where every proxy gets the same."""
PACED_CONNECTIONS = 64
"""At that rate each has 6 ms for an answer before it is late for its next turn."""
SCRIPT = """
-- 64 requests of different users and lengths, in turn
local requests, turn = {{}}, 0
init = function(args)
  for n = 1, 64 do
    local body = string.gsub([[{request}]], "user%-1234", "user-" .. n)
    body = string.gsub(body, "assembly", "assembly" .. string.rep("!", n % 13))
    requests[n] = wrk.format("POST", nil, {{["Content-Type"] = "application/json", ["Accept"] = "application/json",
      ["Authorization"] = "Bearer sk-bench", ["User-Agent"] = "OpenAI/Python 1.90.0",
      ["X-Stainless-Lang"] = "python"}}, body)
  end
end
request = function() turn = turn % 64 + 1; return requests[turn] end
done = function(s, l, r)
  io.write(string.format("RESULT %d %d %d %d %d %d\\n", s.requests, s.duration, l:percentile(50), l:percentile(99),
    s.errors.status, s.errors.read + s.errors.connect + s.errors.timeout))
end
"""
TIMETABLE = """
local ffi = require("ffi")
ffi.cdef("typedef struct {{ long s; long ns; }} instant; int clock_gettime(int, instant *);")
local clock, due = ffi.new("instant"), 0
delay = function()
  ffi.C.clock_gettime(1, clock)
  local now = tonumber(clock.s) * 1e3 + tonumber(clock.ns) / 1e6
  due = due + 1e3 / {rate}
  if due < now - 50 then due = now end  -- at the beginning, and behind a stall: that is not made up for
  return math.max(0, math.floor(due - now + math.random()))  -- whole milliseconds, right on average
end
"""


def wrk(directory: Path, port: int, seconds: int, *, rate: int | None = None, beside: bool = True) -> dict[str, float]:
    """Load a port: requests answered, their number a second, latency percentiles in ms, and what failed.

    `rate`: so many a second; None: all that fits. `beside`: leave alone the core that is measured.
    """
    script = directory / "post.lua"
    script.write_text(SCRIPT.format(request=REQUEST) + (TIMETABLE.format(rate=rate) if rate else ""))
    connections = PACED_CONNECTIONS if rate else CONNECTIONS
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as load:
        if beside:
            pinned(load.pid, beside=True)
        output, _ = load.communicate()
    match = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if match is None:
        raise RuntimeError(f"wrk said nothing useful:\n{output}")
    requests, duration, p50, p99, status, errors = map(int, match.groups())
    return {"requests": requests, "req_s": requests / duration * 1e6, "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3,
            "errors": status + errors}  # fmt: skip
