"""Serve a base model and LoRA adapters on a CPU, over the part of vLLM's API that Ratchet uses.

    python server.py BASE PORT

Answers /v1/chat/completions, /v1/completions and /v1/models, and loads and unloads adapters while it runs
(/v1/load_lora_adapter, /v1/unload_lora_adapter), named as vLLM names them. This is transformers and peft behind one
lock, one request at a time, without streaming: for trying the loop out, not for users. For users take vLLM.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


class Refused(Exception):
    """A request that gets an error: status and message."""


class Generated(NamedTuple):
    """Text, why it ended, and the number of tokens in the prompt and in the text."""

    text: str
    reason: str
    read: int
    written: int


class Models:
    """One base model, and adapters by name."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self._model: Any = AutoModelForCausalLM.from_pretrained(base).eval()
        self._adapters: dict[str, tuple[str, str]] = {}  # name → peft's key for it, path
        self._keys = count(1)
        self._lock = Lock()

    def listed(self) -> list[dict[str, Any]]:
        """What /v1/models shows."""
        entries = [{"id": self.base, "object": "model", "root": self.base, "parent": None}]
        return entries + [
            {"id": name, "object": "model", "root": path, "parent": self.base}
            for name, (_, path) in list(self._adapters.items())
        ]

    def load(self, name: str, path: str) -> None:
        """Read an adapter from its folder."""
        with self._lock:
            if name in self._adapters:
                raise Refused(400, f"The lora adapter '{name}' has already been loaded.")
            if not (Path(path) / "adapter_config.json").is_file():
                raise Refused(404, f"No adapter found for '{path}'.")
            key = f"adapter{next(self._keys)}"
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(path, key)
            else:
                self._model = PeftModel.from_pretrained(self._model, path, adapter_name=key).eval()
            self._adapters[name] = (key, path)

    def unload(self, name: str) -> None:
        """Forget an adapter."""
        with self._lock:
            if name not in self._adapters:
                raise Refused(404, f"The lora adapter '{name}' cannot be found.")
            key, _ = self._adapters.pop(name)
            if self._adapters:
                self._model.delete_adapter(key)
            else:  # peft wants to keep one: take them all off instead
                self._model = self._model.unload()

    @torch.inference_mode()
    def generate(self, name: str, prompt: str, max_tokens: int) -> Generated:
        """Take the likeliest token until the model ends or `max_tokens` are reached."""
        with self._lock:
            if name != self.base and name not in self._adapters:
                raise Refused(404, f"The model `{name}` does not exist.")
            inputs = self.tokenizer(prompt, return_tensors="pt")
            with self._chosen(name):
                tokens = self._model.generate(
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    max_new_tokens=max_tokens,
                    do_sample=False,
                )
        read = inputs["input_ids"].shape[1]
        written = tokens[0, read:]
        reason = "stop" if written[-1] == self.tokenizer.eos_token_id else "length"
        return Generated(self.tokenizer.decode(written, skip_special_tokens=True), reason, read, len(written))

    def _chosen(self, name: str) -> Any:
        if name in self._adapters:
            self._model.set_adapter(self._adapters[name][0])
            return nullcontext()
        return self._model.disable_adapter() if self._adapters else nullcontext()


class Api(BaseHTTPRequestHandler):
    """Routes, JSON in and out."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    models: Models

    def do_GET(self) -> None:
        if self.path == "/health":
            self._reply(200, {})
        elif self.path == "/v1/models":
            self._reply(200, {"object": "list", "data": self.models.listed()})
        else:
            self._refuse(404, "Not Found")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        act = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._complete,
            "/v1/load_lora_adapter": self._load,
            "/v1/unload_lora_adapter": self._unload,
        }.get(self.path)
        try:
            if act is None:
                raise Refused(404, "Not Found")
            self._reply(200, act(json.loads(body)))
        except Refused as refused:
            self._refuse(*refused.args)
        except (KeyError, TypeError, ValueError) as error:
            self._refuse(400, f"{type(error).__name__}: {error}")

    def _chat(self, asked: dict[str, Any]) -> Any:
        prompt = self.models.tokenizer.apply_chat_template(
            asked["messages"], tokenize=False, add_generation_prompt=True
        )
        made = self._generate(asked, prompt)
        return _completion(asked, "chat.completion", {"message": {"role": "assistant", "content": made.text}}, made)

    def _complete(self, asked: dict[str, Any]) -> Any:
        made = self._generate(asked, asked["prompt"])
        return _completion(asked, "text_completion", {"text": made.text}, made)

    def _generate(self, asked: dict[str, Any], prompt: str) -> Generated:
        if asked.get("stream"):
            raise Refused(400, "This server does not stream.")
        return self.models.generate(asked["model"], prompt, int(asked.get("max_tokens") or 16))

    def _load(self, asked: dict[str, Any]) -> Any:
        self.models.load(asked["lora_name"], asked["lora_path"])
        return f"Success: LoRA adapter '{asked['lora_name']}' added successfully."

    def _unload(self, asked: dict[str, Any]) -> Any:
        self.models.unload(asked["lora_name"])
        return f"Success: LoRA adapter '{asked['lora_name']}' removed successfully."

    def _refuse(self, status: int, message: str) -> None:
        self._reply(status, {"error": {"message": message, "code": status}})

    def _reply(self, status: int, document: Any) -> None:
        plain = isinstance(document, str)
        body = (document if plain else json.dumps(document)).encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain" if plain else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def _completion(asked: dict[str, Any], kind: str, choice: dict[str, Any], made: Generated) -> dict[str, Any]:
    return {
        "object": kind,
        "created": int(time.time()),
        "model": asked["model"],
        "choices": [{"index": 0, "finish_reason": made.reason, **choice}],
        "usage": {
            "prompt_tokens": made.read,
            "completion_tokens": made.written,
            "total_tokens": made.read + made.written,
        },
    }


def main(base: str, port: int) -> None:
    """Serve until stopped."""
    torch.set_num_threads(1)
    Api.models = Models(base)
    Api.models.generate(base, "Hello", 2)
    server = ThreadingHTTPServer(("127.0.0.1", port), Api)
    print(f"{base} is served on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
