"""A model server for the command deployer: healthy once its model file says so. `model_server.py MODEL PORT`."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = Path(sys.argv[1])


class Handler(BaseHTTPRequestHandler):
    """GET /health: 503 while the model's text is `loading`."""

    def do_GET(self) -> None:
        """Answer by the text of the model."""
        self.send_response(503 if MODEL.read_text() == "loading" else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


if MODEL.read_text() == "broken":
    print("CUDA out of memory", flush=True)
    sys.exit(3)
with (MODEL.parent / "starts").open("a") as starts:
    starts.write("started\n")
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
