"""The other names of a record: every system's header gives the name that the same system's votes use."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy.config.load import parse_config
from proxy.config.serving import CaptureConfig
from proxy.errors import ConfigError
from proxy.ingest.aliases import MAX_ALIASES, AliasReader
from proxy.store.tables.keys import alias_hash, task_alias_hash
from proxy.wire.extract.values import REDACTED
from tests.harness.late import late

langsmith = late("langsmith.run_trees")

MESSAGE = "0b5e55a6-0000-4000-8000-00000000abcd"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ROOT, RUN = "9d0c7c37-4f0d-4a1e-8d5a-000000000001", "9d0c7c37-4f0d-4a1e-8d5a-000000000002"
READER = AliasReader(CaptureConfig())


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({"x-openwebui-message-id": MESSAGE}, (MESSAGE,)),
        ({"x-message-id": MESSAGE}, (MESSAGE, "8b12192d46d0d2389322b03ce4dccfc6")),
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, (TRACE, SPAN)),
        ({"traceparent": f"00-{'0' * 32}-{SPAN}-01"}, (SPAN,)),
        ({"traceparent": "of some other form"}, ()),
        ({"langsmith-trace": f"20261129T100000000001Z{ROOT}.20261129T100000000002Z{RUN}"}, (RUN, ROOT)),
        ({"langsmith-trace": f"20261129T100000000001Z{ROOT}"}, (ROOT,)),
        ({"langsmith-trace": "20261129T100000000001Znot-a-run"}, ()),
        ({"x-portkey-trace-id": "trace-of-portkey"}, ("trace-of-portkey",)),
        ({"helicone-request-id": MESSAGE}, (MESSAGE,)),
        ({"x-openwebui-message-id": ""}, ()),
        ({"x-openwebui-message-id": "{{MESSAGE_ID}}"}, ()),
        ({"x-openwebui-message-id": f"aa{REDACTED}aaaaaaa"}, ()),
        ({"x-message-id": "1"}, ("1",)),
        ({"x-of-nobody": MESSAGE}, ()),
    ],
)
def test_a_header_of_a_request_names_its_answer(headers: dict[str, str], names: tuple[str, ...]) -> None:
    assert READER.of(None, headers, {}) == names


def test_so_do_the_answers_id_and_its_headers_and_each_name_stands_once() -> None:
    answered = {"x-litellm-call-id": "call-of-litellm", "x-amzn-requestid": "request-of-bedrock", "request-id": MESSAGE}
    found = READER.of("chatcmpl-1", {"x-request-id": MESSAGE, "x-openwebui-message-id": MESSAGE}, answered)
    assert found == ("chatcmpl-1", MESSAGE, "call-of-litellm", "request-of-bedrock")


def test_the_headers_that_the_real_clients_send_name_their_runs_and_traces() -> None:
    root = langsmith.RunTree(name="answer a question", run_type="chain")
    child = root.create_child("ask the model", run_type="llm")
    assert READER.of(None, root.to_headers(), {}) == (str(root.id),)
    assert READER.of(None, child.to_headers(), {}) == (str(child.id), str(root.id))

    headers: dict[str, str] = {}
    with TracerProvider().get_tracer("shop").start_as_current_span("chat") as span:
        TraceContextTextMapPropagator().inject(headers)
        context = span.get_span_context()
    assert READER.of(None, headers, {}) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


def test_own_headers_are_configured_in_whatever_case_and_the_number_of_names_has_an_end() -> None:
    names = tuple(f"X-Name-{n}" for n in range(40))
    reader = AliasReader(CaptureConfig(alias_headers=names))
    found = reader.of("chatcmpl-1", {name.lower(): f"value-{name}" for name in names}, {})
    assert found[:2] == ("chatcmpl-1", "value-X-Name-0")
    assert len(found) == MAX_ALIASES


def test_a_header_that_names_users_or_holds_a_key_is_no_alias() -> None:
    document = {"champion": {"url": "http://model.example.com"}}
    for name, why in (("authorization", "carries a credential"), ("x-user-id", "names users")):
        with pytest.raises(ConfigError, match=f"capture.alias_headers.*{why}"):
            parse_config(document | {"capture": {"alias_headers": [name]}})
    with pytest.raises(ConfigError, match="no other way to make a name"):
        parse_config(document | {"capture": {"alias_headers": ["x-message-id#md5"]}})


def test_mlflows_name_of_a_trace_is_the_trace() -> None:
    assert alias_hash(f"tr-{TRACE}") == alias_hash(TRACE) != task_alias_hash(TRACE) == task_alias_hash(f"tr-{TRACE}")
    assert alias_hash("tr-something-else") != alias_hash("something-else")
