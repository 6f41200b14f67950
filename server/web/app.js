// The chat page: conversations, the reply that streams in, and the controls around them.
import {get, getKey, setKey, stream} from "./api.js";
import {toggleLive} from "./live.js";
import {element, render} from "./markdown.js";
import {anyPictures, bindPictures, limitPictures, picturesRead, takePictures, thumbnail} from "./pictures.js";
import {conversations, saveConversations, saveSettings, settings} from "./store.js";
import {renderTokens} from "./tokens.js";

const $ = id => document.getElementById(id);
const log = $("log"), input = $("input");
let current = null;  // the conversation that is shown
let running = null;  // {controller} of the reply under way

// -- conversations ----------------------------------------------------------------------------------------

function startNew() {
  current = null;
  showList();
  showLog();
  input.focus();
}

function open(conversation) {
  current = conversation;
  $("sidebar").classList.remove("open");
  showList();
  showLog();
}

function remove(conversation) {
  conversations.splice(conversations.indexOf(conversation), 1);
  saveConversations(current);
  if (current === conversation) startNew();
  else showList();
}

function showList() {
  $("list").replaceChildren(...conversations.map(one => element("li", {className: one === current ? "here" : ""},
    element("button", {className: "name", onclick: () => { if (!running) open(one); }}, one.title),
    element("button", {className: "quiet", "aria-label": `Delete ${one.title}`, onclick: () => { if (!running) remove(one); }}, "✕"))));
}

// -- turns ------------------------------------------------------------------------------------------------

function showLog() {
  const turns = current?.turns ?? [];
  log.replaceChildren(...turns.map(showTurn));
  log.scrollTop = log.scrollHeight;
}

function button(label, action) {
  return element("button", {className: "quiet", type: "button", onclick: action}, label);
}

function showTurn(turn) {
  const body = element("div", {className: "body"});
  const tools = element("div", {className: "tools"});
  const node = element("article", {className: `turn ${turn.role}`, "aria-label": turn.role === "user" ? "You" : "Model"}, body, tools);
  turn.node = node;
  fillBody(turn);
  fillTools(turn);
  Object.defineProperty(turn, "node", {enumerable: false});
  return node;
}

function picturesOf(turn) {
  const shown = turn.pictures?.length ? [element("div", {className: "shown"}, ...turn.pictures.map(thumbnail))] : [];
  if (turn.lost) shown.push(element("em", {}, "(Its pictures did not fit the browser's storage.)\n"));
  return shown;
}

function fillBody(turn) {
  const body = turn.node.querySelector(".body");
  if (turn.role === "user") body.replaceChildren(...picturesOf(turn), turn.content);
  else if (turn.showTokens && turn.tokens?.length) body.replaceChildren(renderTokens(turn.tokens));
  else body.replaceChildren(...render(turn.content));
  if (turn.error) body.append(element("p", {className: "error"}, turn.error));
}

function fillTools(turn) {
  const tools = turn.node.querySelector(".tools");
  if (turn === running?.turn) return tools.replaceChildren(element("span", {}, turn.stats ?? "…"));
  const copy = button("Copy", () => navigator.clipboard.writeText(turn.content));
  if (turn.role === "user") return tools.replaceChildren(button("Edit", () => edit(turn)), copy);
  const probabilities = turn.tokens?.length ? [button(turn.showTokens ? "Text" : "Tokens", () => {
    turn.showTokens = !turn.showTokens;
    fillBody(turn);
    fillTools(turn);
  })] : [];
  return tools.replaceChildren(button("Regenerate", () => regenerate(turn)), copy, ...probabilities, element("span", {}, turn.stats ?? ""));
}

function edit(turn) {
  if (running) return;
  const area = element("textarea", {value: turn.content, rows: 4, "aria-label": "Edit the message"});
  const body = turn.node.querySelector(".body");
  turn.node.querySelector(".tools").replaceChildren(
    button("Send", () => {
      const at = current.turns.indexOf(turn);
      current.turns.length = at;
      ask(area.value, turn.pictures);
    }),
    button("Cancel", () => { fillBody(turn); fillTools(turn); }));
  body.replaceChildren(...picturesOf(turn), area);
  area.focus();
}

function regenerate(turn) {
  if (running) return;
  const at = current.turns.indexOf(turn);
  const [question] = current.turns.splice(at - 1);
  ask(question.content, question.pictures);
}

// -- asking -----------------------------------------------------------------------------------------------

function contentOf({content, pictures}) {
  if (!pictures?.length) return content;
  const words = content.trim() ? [{type: "text", text: content}] : [];
  return [...pictures.map(url => ({type: "image_url", image_url: {url}})), ...words];
}

function requestBody() {
  const said = current.turns.filter(turn => (turn.content || turn.pictures?.length) && !turn.error);
  const messages = said.map(turn => ({role: turn.role, content: contentOf(turn)}));
  if (settings.system.trim()) messages.unshift({role: "system", content: settings.system});
  const body = {messages, stream: true, stream_options: {include_usage: true}};
  for (const name of ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"]) {
    if (settings[name] !== "") body[name] = Number(settings[name]);
  }
  if (settings.logprobs) Object.assign(body, {logprobs: true, top_logprobs: 5});
  return body;
}

async function ask(text, pictures = []) {
  if (!current) {
    current = {title: text.trim().slice(0, 60) || (pictures.length ? "Picture" : "Chat"), turns: []};
    conversations.unshift(current);
  }
  current.turns.push(pictures.length ? {role: "user", content: text, pictures} : {role: "user", content: text});
  const body = requestBody();
  const turn = {role: "assistant", content: "", tokens: []};
  current.turns.push(turn);
  running = {controller: new AbortController(), turn};
  showList();
  showLog();
  $("send").hidden = true;
  $("stop").hidden = false;
  try {
    await receive(turn, body);
  } catch (error) {
    if (error.name !== "AbortError") turn.error = error.message;
  }
  running = null;
  $("send").hidden = false;
  $("stop").hidden = true;
  fillBody(turn);
  fillTools(turn);
  saveConversations(current);
  showList();
}

// Draws at most once a frame, however fast tokens come.
async function receive(turn, body) {
  const begun = performance.now();
  let first = 0, count = 0, drawing = false;
  const draw = () => {
    drawing = false;
    if (running?.turn !== turn) return;
    const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    fillBody(turn);
    fillTools(turn);
    if (follow) log.scrollTop = log.scrollHeight;
  };
  for await (const event of stream(body, running.controller.signal)) {
    const choice = event.choices[0];
    for (const token of choice?.logprobs?.content ?? []) {
      turn.tokens.push({token: token.token, logprob: token.logprob, top: token.top_logprobs});
    }
    if (choice?.delta.content) {
      first ||= performance.now();
      ++count;
      turn.content += choice.delta.content;
    }
    if (event.usage) count = event.usage.completion_tokens;
    const seconds = (performance.now() - first) / 1000;
    if (first && count > 1) {
      const rate = seconds > 0.02 ? `${((count - 1) / seconds).toFixed(1)} tok/s · ` : "";  // one packet has no speed
      turn.stats = `${rate}${count} tokens · first after ${((first - begun) / 1000).toFixed(2)} s`;
    }
    if (choice?.finish_reason === "length") turn.stats = `${turn.stats ?? ""} · cut at its longest`;
    if (!drawing) {
      drawing = true;
      requestAnimationFrame(draw);
    }
  }
}

function stop() {
  running?.controller.abort();
}

async function send() {
  await picturesRead();
  const text = input.value;
  if (running || !(text.trim() || anyPictures())) return;
  input.value = "";
  grow();
  ask(text, takePictures());
}

function grow() {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight + 2}px`;
}

// -- controls ---------------------------------------------------------------------------------------------

function bindSettings() {
  for (const name of Object.keys(settings)) {
    const field = $(name);
    const box = field.type === "checkbox";
    if (box) field.checked = settings[name];
    else field.value = settings[name];
    field.addEventListener("input", () => {
      settings[name] = box ? field.checked : field.value;
      saveSettings();
      applyTheme();
    });
  }
  $("key").value = getKey();
  $("key").addEventListener("change", () => { setKey($("key").value); showModel(); });
}

function applyTheme() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
}

async function showModel() {
  try {
    const [model] = (await get("/v1/models")).data;
    $("model").textContent = `${model.id} · context ${model.max_model_len}`;
    limitPictures(model.max_images, model.max_image_bytes);
  } catch (error) {
    $("model").textContent = error.message;
    setTimeout(showModel, 2000);
  }
}

function bind() {
  $("new").addEventListener("click", () => { if (!running) startNew(); });
  $("clear").addEventListener("click", () => {
    if (running || !confirm("Delete all conversations?")) return;
    conversations.length = 0;
    saveConversations();
    startNew();
  });
  $("stop").addEventListener("click", stop);
  $("compose").addEventListener("submit", event => { event.preventDefault(); send(); });
  $("settings").addEventListener("submit", event => event.preventDefault());
  input.addEventListener("input", grow);
  input.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape") stop();
    if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "o") {
      event.preventDefault();
      if (!running) startNew();
    }
  });
  const toggle = (id, action) => $(id).addEventListener("click", () => $(id).setAttribute("aria-expanded", String(action())));
  toggle("toggle-list", () => $("sidebar").classList.toggle("open"));
  toggle("toggle-settings", () => !($("settings").hidden = !$("settings").hidden));
  toggle("toggle-live", toggleLive);
}

bindSettings();
applyTheme();
bind();
bindPictures(() => (current?.turns ?? []).reduce((sum, turn) => sum + (turn.pictures?.length ?? 0), 0));
showModel();
open(conversations[0] ?? null);
