// fetch through Ratchet, in Node 18 and later, Deno, Bun or a browser: ask, read the stream, vote.
//   RATCHET_URL=http://127.0.0.1:8080 node examples/javascript/chat.mjs
//
// A browser page on another origin sees x-ratchet-record-id only if answers say Access-Control-Expose-Headers.

const RATCHET_URL = globalThis.process?.env.RATCHET_URL ?? "http://127.0.0.1:8080";

async function ask(question, user, onWords) {
  const response = await fetch(`${RATCHET_URL}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-user-id": user },
    body: JSON.stringify({ model: "any", stream: true, messages: [{ role: "user", content: question }] }),
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: {")) onWords(JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? "");
    }
  }
  return response.headers.get("x-ratchet-record-id");
}

async function vote(recordId, user, feedback, more = {}) {
  const response = await fetch(`${RATCHET_URL}/-/feedback`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ record_id: recordId, feedback, source: user, ...more }),
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
}

let text = "";
const recordId = await ask("My computer ignores me.", "ann", (words) => { text += words; });
console.log(text);
await vote(recordId, "ann", 1, { tags: { page: "example" } });
