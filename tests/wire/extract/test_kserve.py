"""KServe v2 tensors, its generate extension, and v1 predict."""

import json
from typing import Any

import pytest

from proxy.wire.extract import CapturedExchange, Extraction, extract

INFER = "/v2/models/iris/versions/1/infer"


def call(path: str, request: Any, response: Any) -> Extraction:
    return extract(
        CapturedExchange(
            target=path,
            request=json.dumps(request).encode(),
            response=json.dumps(response).encode(),
            response_type="application/json",
        )
    )


def tensor(name: str, data: Any, datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": [1], "datatype": datatype, "data": data}


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ([tensor("x", [5.1, 3.5])], "[5.1,3.5]"),
        ([tensor("x", [[5.1], [3.5]])], "[[5.1],[3.5]]"),
        ([tensor("x", [1]), tensor("y", [2])], '{"x":[1],"y":[2]}'),
        ([tensor("x", ["hello"], "BYTES"), tensor("y", [["world"]], "BYTES")], "hello\nworld"),
        ([], None),
    ],
)
def test_tensors_become_text(tensors: Any, text: str | None) -> None:
    found = call(INFER, {"id": "1", "inputs": tensors}, {"id": "1", "model_name": "iris-2", "outputs": tensors})
    assert (found.kind, found.query, found.response) == ("kserve", text, text)
    assert (found.model, found.provider_id) == ("iris-2", "1")


def test_generate_and_predict() -> None:
    found = call("/v2/models/llm/generate", {"text_input": "Hi"}, {"text_output": "Hello"})
    assert (found.kind, found.query, found.response, found.model) == ("kserve", "Hi", "Hello", "llm")
    found = call("/v1/models/iris:predict", {"instances": [[1, 2]]}, {"predictions": [0]})
    assert (found.kind, found.query, found.response, found.model) == ("kserve", "[[1,2]]", "[0]", "iris")


def test_generate_stream_adds_up() -> None:
    body = b'data: {"model_name":"llm","text_output":"Hel"}\n\ndata: {"text_output":"lo"}\n\n'
    found = extract(CapturedExchange(target="/v2/models/llm/generate_stream", request=b'{"text_input":"Hi"}',
                                     response=body, response_type="text/event-stream"))  # fmt: skip
    assert (found.response, found.reassembled) == ("Hello", {"model_name": "llm", "text_output": "Hello"})
