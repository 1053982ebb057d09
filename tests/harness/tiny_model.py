"""A model small enough to train in a test: it has learned one number from its data, how good its answers are.

python tiny_model.py serve MODEL PORT        answers chats, each with its score; /health
python tiny_model.py train DATA RESULT DIR GAIN    learns from the training file, writes a model and its result
"""

from __future__ import annotations

import json
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def serve(model: Path, port: int) -> None:
    """Answer until killed. Scores differ a little between users, around what the model has learned."""
    quality = json.loads(model.read_text())["quality"]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer({"status": "ok"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            noise = (zlib.crc32(body["user"].encode()) % 7 - 3) / 100
            text = f"{model.name} says: {zlib.crc32(body['messages'][-1]['content'].encode())}"
            message = {"role": "assistant", "content": text}
            self._answer({"choices": [{"index": 0, "message": message}], "quality": min(1.0, quality + noise)})

        def _answer(self, document: dict[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def train(data: Path, result: Path, folder: Path, gain: float) -> None:
    """Learn: the champion's quality plus what the data, more or less well, adds to it."""
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    model = folder / "model.json"
    model.write_text(json.dumps({"quality": 0.75 + gain * len(lines) / (len(lines) + 1), "samples": len(lines)}))
    result.write_text(json.dumps({"model_path": str(model), "samples": len(lines)}))


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "serve":
        serve(Path(rest[0]), int(rest[1]))
    else:
        train(Path(rest[0]), Path(rest[1]), Path(rest[2]), float(rest[3]))
