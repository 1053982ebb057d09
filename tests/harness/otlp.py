"""A receiver of OTLP over HTTP: reads what comes with OpenTelemetry's own messages, and answers as it is told."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["OtlpReceiver", "attributes", "receiving"]

Script = Callable[[str, int], web.Response | None]
"""From signal and number of things in the request to the answer; None takes it."""


def attributes(of: Any) -> dict[str, Any]:
    """Of a span, an event or a resource, as plain values."""
    return {pair.key: _plain(pair.value) for pair in of.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


class OtlpReceiver:
    """What has come and was taken, in order."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.events: list[LogRecord] = []
        self.headers: list[Mapping[str, str]] = []
        self.resources: list[dict[str, Any]] = []
        self.asked: list[str] = []
        """The signal of each request, refused ones too."""
        self.raw: list[bytes] = []
        self.script: Script = lambda signal, count: None
        self.url = ""
        self._came = asyncio.Condition()

    async def until(self, enough: Callable[[OtlpReceiver], bool]) -> None:
        """Return once `enough` says so."""
        async with asyncio.timeout(60), self._came:
            await self._came.wait_for(lambda: enough(self))

    async def take(self, request: web.Request) -> web.Response:
        signal = request.match_info["signal"]
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        async with self._came:
            self.asked.append(signal)
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.raw.append(body)
            answer = self._take(signal, body)
            self._came.notify_all()
        return answer

    def _take(self, signal: str, body: bytes) -> web.Response:
        if signal == "traces":
            groups = ExportTraceServiceRequest.FromString(body).resource_spans
            found = [span for group in groups for scope in group.scope_spans for span in scope.spans]
        else:
            groups = ExportLogsServiceRequest.FromString(body).resource_logs
            found = [event for group in groups for scope in group.scope_logs for event in scope.log_records]
        if (answer := self.script(signal, len(found))) is not None:
            return answer
        self.resources += [attributes(group.resource) for group in groups]
        (self.spans if signal == "traces" else self.events).extend(found)  # type: ignore[arg-type]
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def receiving() -> AsyncIterator[OtlpReceiver]:
    """A receiver on a port of its own."""
    receiver = OtlpReceiver()
    app = web.Application(client_max_size=1 << 26)
    app.add_routes([web.post("/v1/{signal:traces|logs}", receiver.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
