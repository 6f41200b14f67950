// The header's line: which model answers, or why none does. Asks now and then, so that a server that goes is seen to go
// and one that comes back is seen to come back.
import {get} from "./api.js";

const line = document.getElementById("model");
const calm = 10000, anxious = 2000;  // milliseconds until the next question
let timer = 0, said = {};

function say(text, good) {
  line.classList.toggle("error", !good);
  if (line.textContent !== text) line.textContent = text;
}

export async function checkModel() {
  clearTimeout(timer);
  let wait = calm;
  try {
    const [model] = (await get("/v1/models")).data;
    say(`${model.id} · context ${model.max_model_len}`, true);
    said.found(model);
  } catch (error) {
    say({0: "The server cannot be reached; trying again…", 401: "An API key is needed (⚙)"}[error.status] ?? error.message, false);
    if (error.status === 401) said.keyNeeded();
    else wait = anxious;
  }
  clearTimeout(timer);
  timer = setTimeout(checkModel, wait);
}

// `found(model)` runs at each answer, `keyNeeded()` at each refusal of the key.
export function watchModel(found, keyNeeded) {
  said = {found, keyNeeded};
  document.addEventListener("visibilitychange", () => { if (!document.hidden) checkModel(); });
  checkModel();
}
