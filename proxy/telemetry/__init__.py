"""Telemetry out: records as spans, votes and scores as events, sent by OTLP over HTTP to a collector.

The store is the queue. `service` walks what is finished (`proxy.store.reading.finished`), `spans` and `evaluations` say
what it is in the words of OpenTelemetry's GenAI conventions, `encoding` has OpenTelemetry's own packages write it, and
`sending` sends it. Only the controller does any of this, and imports it only where `telemetry.otlp_endpoint` is set.
"""
