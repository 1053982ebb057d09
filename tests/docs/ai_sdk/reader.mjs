// Who follows the page: asks once, has a chat, and votes on what the chat page shows. Prints what came back.
import { once } from "./once.mjs";
import { POST } from "./route.mjs";
import { vote } from "./vote.mjs";

const told = await once();
const messages = [{ id: "1", role: "user", parts: [{ type: "text", text: "Name a lake in Peru." }] }];
const answer = await POST(new Request("http://page/", { method: "POST", body: JSON.stringify({ messages }) }));
const stream = await answer.text();
const [metadata] = stream.split("\n").filter((line) => line.includes('"message-metadata"'));
await vote({ metadata: JSON.parse(metadata.slice("data: ".length)).messageMetadata }, 1, "u42");
console.log(JSON.stringify({ ...told, stream }));
