"""The JavaScript clients of other systems, unchanged but for base URL and key.

They come from npm, in the folder RATCHET_NPM: `npm install @langfuse/client langsmith assistant-cloud` there.
What they send is tested in every run (`tests/web/test_others_cases.py`).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.harness.ballots import TOKEN, Ballots
from tests.harness.require import need

pytestmark = pytest.mark.slow

PAGE: Final = Path(__file__).parents[2] / "docs/how-to/feedback-from-other-tools.md"
TRACE: Final = "3a0de37932e8b19746f20b22414f862f"
RUN: Final = "3f0c7f6e-0000-4000-8000-000000000001"
SCRIPT: Final = """
import { LangfuseClient } from "@langfuse/client";
import { Client } from "langsmith";
import { AssistantCloud } from "assistant-cloud";
const [url, token, trace, run, messageId] = process.argv.slice(2);
const langfuse = new LangfuseClient({ baseUrl: `${url}/-/langfuse`, publicKey: "any", secretKey: token });
langfuse.score.create({ id: "s-1", traceId: trace, name: "user-feedback", value: 1, dataType: "BOOLEAN" });
await langfuse.score.flush();
const langsmith = new Client({ apiUrl: `${url}/-/langsmith`, apiKey: token });
const given = await langsmith.createFeedback(run, "user_score", { score: 1, sourceInfo: { user: "u42" } });
await langsmith.updateFeedback(given.id, { score: 0 });
const threadId = "t-1", userId = "u42", workspaceId = "w-1";
ASSISTANT
process.exit(0);
"""


async def test_javascript_clients(tmp_path: Path) -> None:
    folder = Path(os.environ.get("RATCHET_NPM", tmp_path))
    there = shutil.which("node") is not None and (folder / "node_modules/assistant-cloud").is_dir()
    need("npm clients", there, extra=True)
    block = re.search(r"```js\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    async with Ballots(tmp_path / "install").running() as ballots:
        trace, run, message = [await ballots.record(name) for name in (TRACE, RUN, "message-0001")]
        lines = block[1].replace("https://llm.example.com", ballots.url).replace("<feedback.token>", TOKEN)
        script = folder / "vote.mjs"
        script.write_text(SCRIPT.replace("ASSISTANT", lines), encoding="utf-8")
        arguments = [str(script), ballots.url, TOKEN, TRACE, RUN, "message-0001"]
        process = await asyncio.create_subprocess_exec("node", *arguments)
        assert await process.wait() == 0
        assert [await ballots.thumb(record) for record in (trace, run, message)] == [1, -1, 1]
        assert (await ballots.last_vote(message)).source == "u42"
