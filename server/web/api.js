// The server's API as the page uses it.
let key = sessionStorage.getItem("key") ?? "";

export function setKey(value) {
  key = value;
  sessionStorage.setItem("key", value);
}
export const getKey = () => key;

function headers(more = {}) {
  return key ? {...more, Authorization: `Bearer ${key}`} : more;
}

async function failure(response) {
  try {
    return new Error((await response.json()).error.message);
  } catch {
    return new Error(`the server answered ${response.status}`);
  }
}

export async function get(path) {
  const response = await fetch(path, {headers: headers()});
  if (!response.ok) throw await failure(response);
  return response.json();
}

// The events of a streamed chat reply, one parsed JSON object each.
export async function* stream(body, signal) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST", signal, body: JSON.stringify(body), headers: headers({"Content-Type": "application/json"}),
  });
  if (!response.ok) throw await failure(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    waiting += value;
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const json = JSON.parse(data);
      if (json.error) throw new Error(json.error.message);
      yield json;
    }
  }
}
