"""Two real services for the deployers: the deployment webhook, and a server that speaks vLLM's LoRA endpoints.

The latter follows vLLM's documentation of runtime LoRA updating (docs/features/lora.md) and its server's answers:
`POST /v1/load_lora_adapter`, `POST /v1/unload_lora_adapter`, adapters with `root` and `parent` in `GET /v1/models`. It
is not vLLM itself, which needs a GPU and a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


class DeploymentService:
    """Deploys a model whose file does not say `loading` or `broken`."""

    def __init__(self) -> None:
        self.deployed: dict[str, dict[str, Any]] = {}
        self.posts = 0
        self.answer: dict[str, Any] | None = None
        self.refuse: int | None = None
        self.app = Starlette(
            routes=[
                Route("/deploy", self.deploy, methods=["POST"]),
                Route("/deploy/{model_id}", self.look, methods=["GET"]),
                Route("/deploy/{model_id}", self.stop, methods=["DELETE"]),
            ]
        )

    async def deploy(self, request: Request) -> Response:
        if self.refuse is not None:
            return JSONResponse({"error": "no GPU left"}, self.refuse)
        order = await request.json()
        model_id = request.headers["idempotency-key"]
        if model_id in self.deployed:
            return Response(status_code=409)
        self.posts += 1
        self.deployed[model_id] = order
        return Response(status_code=202)

    async def look(self, request: Request) -> Response:
        order = self.deployed.get(request.path_params["model_id"])
        if order is None:
            return Response(status_code=404)
        if self.answer is not None:
            return JSONResponse(self.answer)
        state = Path(order["model_path"]).read_text()
        if state == "loading":
            return JSONResponse({"status": "pending", "reason": "loading weights"})
        if state == "broken":
            return JSONResponse({"status": "failed", "reason": "CUDA out of memory"})
        return JSONResponse({"status": "ready", "url": "http://gpu:8000", "model": order["name"]})

    async def stop(self, request: Request) -> Response:
        known = self.deployed.pop(request.path_params["model_id"], None)
        return Response(status_code=404 if known is None else 204)


class VllmServer:
    """One replica: base model `base`, adapters by name."""

    def __init__(self) -> None:
        self.adapters: dict[str, str] = {}
        self.loads = 0
        self.enabled = True
        self.unusable: set[str] = set()
        self.refuse: str | None = None
        """Why it takes no adapter."""
        self.keeps = False
        """It gives none back."""
        self.tokens: list[str | None] = []
        self.oddly: list[Any] = []
        """What it lists instead of its models, where there is something here."""
        self.app = Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/completions", self.complete, methods=["POST"]),
                Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self.unload, methods=["POST"]),
            ]
        )

    async def models(self, request: Request) -> Response:
        self.tokens.append(request.headers.get("authorization"))
        entries = [{"id": "base", "object": "model", "root": "base", "parent": None}]
        entries += [{"id": n, "object": "model", "root": path, "parent": "base"} for n, path in self.adapters.items()]
        return JSONResponse({"object": "list", "data": self.oddly[0] if self.oddly else entries})

    async def load(self, request: Request) -> Response:
        if not self.enabled:
            return JSONResponse({"detail": "Not Found"}, 404)
        body = await request.json()
        name = body["lora_name"]
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if self.refuse is not None:
            return _error(400, self.refuse)
        self.loads += 1
        self.adapters[name] = body["lora_path"]  # whether it exists or not: vllm#18372
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if self.keeps:
            return _error(500, "the engine is dead")
        if self.adapters.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def complete(self, request: Request) -> Response:
        name = (await request.json())["model"]
        if name not in self.adapters or name in self.unusable:
            return _error(404, f"The model `{name}` does not exist.")
        return JSONResponse({"object": "text_completion", "choices": [{"text": "!"}]})


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "code": status}}, status)
