"""How long `ratchet serve` takes from the shell to its first answer, and what that costs in CPU time.

    python -m tests.bench.startup [runs]

Wall time needs an otherwise idle machine; the CPU time of supervisor and worker, which have to run one after the other,
is close to it there and means something on a busy one, too.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from tests.harness.serve import RatchetProcess, request


class _Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        return


def measure(champion: str) -> dict[str, float]:
    """One start: seconds to the first answer, and the CPU seconds that supervisor and worker had used by then."""
    with tempfile.TemporaryDirectory() as directory:
        ratchet = RatchetProcess(Path(directory), champion=champion)
        begun = time.perf_counter()
        ratchet.start(ready=False)
        assert request(ratchet.base_url, "/v1/models").status == 200
        wall_s = time.perf_counter() - begun
        used = [psutil.Process(ratchet.pid(name)).cpu_times() for name in ("supervisor", "worker-0")]
        ratchet.stop(expect=None)
    return {"wall_s": round(wall_s, 3), "cpu_s": round(sum(times.user + times.system for times in used), 3)}


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    results = [measure(f"http://127.0.0.1:{server.server_port}") for _ in range(runs)]
    server.shutdown()
    medians = {name: statistics.median(result[name] for result in results) for name in results[0]}
    print(json.dumps({"load_average": psutil.getloadavg()[0], "median": medians, "runs": results}, indent=2))


if __name__ == "__main__":
    main()
