"""/-/feedback.js over HTTP; what it does in a page is tested in Chromium (tests/examples/test_chat.py)."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from proxy.web.feedback_js import feedback_js_route
from tests.harness.chromium import open_browser, watched_page

SCRIPT = Path(__file__).parents[2] / "proxy/web/feedback_js/feedback.js"


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=[feedback_js_route()]))


def test_it_is_the_file_and_small(client: TestClient) -> None:
    answer = client.get("/-/feedback.js")
    assert answer.content == SCRIPT.read_bytes()
    assert len(answer.content) < 4096
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"] == "public, max-age=86400"
    assert client.head("/-/feedback.js").headers["content-length"] == str(len(answer.content))


def test_it_finds_the_records_id_under_both_of_its_names() -> None:
    with open_browser() as browser, watched_page(browser) as page:
        page.set_content("<p>a page")
        page.evaluate(
            "Object.defineProperty(document, 'currentScript', {value: {src: 'http://127.0.0.1/-/feedback.js'}})"
        )
        page.evaluate(SCRIPT.read_text(encoding="utf-8"))
        for name in ("x-ratchet-record-id", "llm_provider-x-ratchet-record-id"):
            assert page.evaluate("name => Ratchet.recordId(new Headers({[name]: 'the id'}))", name) == "the id"
        assert page.evaluate("Ratchet.recordId(new Headers())") is None


def test_whoever_has_it_is_not_sent_it_again(client: TestClient) -> None:
    tag = client.get("/-/feedback.js").headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/-/feedback.js", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get("/-/feedback.js", headers={"if-none-match": '"other"'}).status_code == 200


def test_any_page_may_embed_it(client: TestClient) -> None:
    headers = client.get("/-/feedback.js").headers
    assert headers["access-control-allow-origin"] == "*"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
