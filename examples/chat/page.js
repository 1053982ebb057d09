/* A conversation with a streaming model. Each finished answer gets thumbs: an element with its record id is enough. */
"use strict";

const turns = document.getElementById("turns");
const text = document.getElementById("text");
const messages = [];

document.getElementById("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = text.value;
  text.value = "";
  messages.push({ role: "user", content: said });
  show("user").textContent = said;
  const item = show("assistant");
  try {
    const response = await fetch("chat", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ messages }),
    });
    if (!response.ok) throw new Error(`the model answered ${response.status}`);
    for await (const words of answer(response.body)) item.append(words);
    messages.push({ role: "assistant", content: item.textContent });
    item.append(thumbs(response.headers.get("x-ratchet-record-id")));
  } catch (error) {
    messages.pop();
    item.textContent = `Sorry: ${error.message}.`;
  }
});

/** The texts in a stream of server-sent chat completion chunks. */
async function* answer(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      yield JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? "";
    }
  }
}

function thumbs(record) {
  const place = document.createElement("div");
  place.dataset.ratchetSource = document.body.dataset.user;
  place.dataset.ratchetAsk = "What should it have said?";
  place.dataset.ratchetRecord = record;
  return place;
}

function show(who) {
  const item = turns.appendChild(document.createElement("li"));
  item.className = who;
  item.scrollIntoView({ block: "end" });
  return item;
}
