"""The demo's model server: an OpenAI-style API in front of one trained model.

`python -m proxy.demo.server --model model.npz --port 9000` is what the command deployer starts. An answer that took
a fraction of a millisecond would leave the latency guardrail nothing to watch, so answers are paced like those of a
small language model: an exponential pause, the same for every model.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from pathlib import Path
from random import expovariate
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.demo.model import Assistant

__all__ = ["create_app", "main"]

_MEAN_PAUSE_S = 0.08


def create_app(assistant: Assistant, name: str) -> Starlette:
    """The API: chat completions (not streamed), the model list, and health."""
    numbers = itertools.count(1)

    async def complete(request: Request) -> Response:
        try:
            question = orjson.loads(await request.body())["messages"][-1]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            return _json({"error": {"message": "messages: send a list that ends with a user message"}}, 400)
        answer = assistant.answer(str(question))
        await asyncio.sleep(expovariate(1 / _MEAN_PAUSE_S))
        usage = {"prompt_tokens": len(question.split()), "completion_tokens": len(answer.split())}
        return _json(
            {
                "id": f"chatcmpl-{name}-{next(numbers)}",
                "object": "chat.completion",
                "created": 0,
                "model": name,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
                "usage": usage | {"total_tokens": sum(usage.values())},
            }
        )

    async def models(_: Request) -> Response:
        return _json({"object": "list", "data": [{"id": name, "object": "model", "owned_by": "ratchet-demo"}]})

    async def health(_: Request) -> Response:
        return _json({"status": "ok", "model": name})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ]
    )


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def main() -> None:
    """Serve one model on a loopback port until stopped."""
    parser = argparse.ArgumentParser(description="Serve one demo model over an OpenAI-style API.")
    parser.add_argument("--model", type=Path, required=True, help="file written by the training function")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="assistant", help="name of the model")
    options = parser.parse_args()
    assistant = Assistant.load(options.model)
    assistant.answer("a first question, so that no customer waits for cold caches")
    app = create_app(assistant, options.name)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
