// The server's API as the page uses it. Errors are for a person to read; `status` 401 asks for a key, 0: nobody answered.
let key = sessionStorage.getItem("key") ?? "";

export function setKey(value) {
  key = value;
  sessionStorage.setItem("key", value);
}
export const getKey = () => key;

export class ApiError extends Error {
  constructor(status, message, {code, param} = {}) {
    super(message);
    Object.assign(this, {status, code, param});
  }
}

const keyWanted = () => (key ? "The server does not know this API key: enter another one under settings (⚙)."
                             : "The server asks for an API key: enter it under settings (⚙).");

async function failure(response) {
  if (response.status === 401) return new ApiError(401, keyWanted());
  try {
    const {error} = await response.json();
    return new ApiError(response.status, error.message, error);
  } catch {
    return new ApiError(response.status, `The server answered ${response.status}.`);
  }
}

// What `reading` gives; a connection that fails is told in words of ours, for those of browsers help nobody.
async function connected(reading, otherwise) {
  try {
    return await reading;
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(0, otherwise);
  }
}

async function request(path, options = {}) {
  const headers = {...options.headers, ...(key ? {Authorization: `Bearer ${key}`} : {})};
  const response = await connected(fetch(path, {...options, headers}), "The server cannot be reached. Is it still running?");
  if (!response.ok) throw await failure(response);
  return response;
}

const brokeOff = "The reply broke off: the server closed the connection.";

export async function get(path) {
  const response = await request(path);
  return connected(response.json(), brokeOff);
}

// The events of a streamed chat reply, one parsed JSON object each.
export async function* stream(body, signal) {
  const response = await request("/v1/chat/completions", {
    method: "POST", signal, body: JSON.stringify(body), headers: {"Content-Type": "application/json"},
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const {done, value} = await connected(reader.read(), brokeOff);
    if (done) throw new ApiError(0, brokeOff);
    waiting += value;
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      if (event.startsWith(":")) continue;  // a comment: the server is still at it
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const json = JSON.parse(data);
      if (json.error) throw new ApiError(response.status, json.error.message, json.error);
      yield json;
    }
  }
}
