// The chat page: conversations, the reply that streams in, and the controls around them.
import {stream} from "./api.js";
import {greeting} from "./greeting.js";
import {toggleLive} from "./live.js";
import {checkModel, watchModel} from "./model.js";
import {anyPictures, bindPictures, limitPictures, picturesRead, takePictures} from "./pictures.js";
import {askForKey, bindSettings, openSettings, settingsOpen} from "./settings.js";
import {bindSidebar, closeDrawer, drawerOpen, showList} from "./sidebar.js";
import {begin, conversations, followOthers, forget, save, settings} from "./store.js";
import {bindTurns, editing, fillTurn, showTurn} from "./turns.js";

const $ = id => document.getElementById(id);
const log = $("log"), input = $("input");
const saveEvery = 2000;  // milliseconds, of a reply under way
let current = null;      // the conversation that is shown
let running = null;      // {controller, turn, conversation} of the reply under way
let model = "";          // its name, once the server told it

// -- conversations ----------------------------------------------------------------------------------------

// Whatever leads away from a reply under way stops it and keeps what came.
function show(conversation) {
  if (running && running.conversation !== conversation) stop();
  current = conversation;
  showRunning();
  closeDrawer();
  showSidebar();
  showLog();
}

function startNew() {
  show(null);
  input.focus();
}

function remove(conversation) {
  if (running?.conversation === conversation) stop();
  forget(conversation);
  if (current === conversation) show(null);
  else showSidebar();
}

function removeAll() {
  if (!confirm("Delete all conversations?")) return;
  stop();
  for (const one of [...conversations]) forget(one);
  startNew();
}

function showRunning() {
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
}

function showSidebar() {
  showList(current, show, remove);
}

// -- turns ------------------------------------------------------------------------------------------------

function showLog() {
  if (current) log.replaceChildren(...current.turns.map(showTurn));
  else log.replaceChildren(greeting(model, text => ask(text)));
  log.scrollTop = log.scrollHeight;
}

// Asks again from this turn on: a question, which may have other words now, or a reply.
function askAgain(turn, text) {
  stop();
  const at = current.turns.indexOf(turn);
  const [question] = current.turns.splice(turn.role === "user" ? at : at - 1);
  ask(text ?? question.content, question.pictures);
}

// -- asking -----------------------------------------------------------------------------------------------

function contentOf({content, pictures}) {
  if (!pictures?.length) return content;
  const words = content.trim() ? [{type: "text", text: content}] : [];
  return [...pictures.map(url => ({type: "image_url", image_url: {url}})), ...words];
}

// What goes to the server again. A picture that it refused would be refused each time.
const saidTurns = () => current.turns.filter(
  turn => (turn.content || turn.pictures?.length) && !turn.error && !turn.refused);

function requestBody() {
  const messages = saidTurns().map(turn => ({role: turn.role, content: contentOf(turn)}));
  if (settings.system.trim()) messages.unshift({role: "system", content: settings.system});
  const body = {messages, stream: true, stream_options: {include_usage: true}};
  for (const name of ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"]) {
    if (settings[name] !== "") body[name] = Number(settings[name]);
  }
  if (settings.logprobs) Object.assign(body, {logprobs: true, top_logprobs: 5});
  return body;
}

async function ask(text, pictures = []) {
  current ??= begin(text.trim().slice(0, 60) || (pictures.length ? "Picture" : "Chat"));
  current.turns.push(pictures.length ? {role: "user", content: text, pictures} : {role: "user", content: text});
  const body = requestBody();
  const turn = {role: "assistant", content: "", tokens: [], unfinished: true};
  current.turns.push(turn);
  const run = running = {controller: new AbortController(), turn, conversation: current};
  save(current);
  showRunning();
  showSidebar();
  showLog();
  try {
    await receive(run, body);
  } catch (error) {
    if (running === run) fail(turn, error);
  }
  finish(run);
}

function fail(turn, error) {
  if (error.code === "invalid_image") refuse(error.param);
  turn.error = error.message;
  if (error.status === 401) wantKey();
  if (error.status === 0) checkModel();
}

// `param` names the message: messages[2].content….
function refuse(param) {
  const at = Number(/^messages\[(\d+)\]/.exec(param)?.[1]) - (settings.system.trim() ? 1 : 0);
  const question = saidTurns()[at];
  if (!question) return;
  question.refused = true;
  fillTurn(question);
}

function finish(run) {
  if (running !== run) return;
  running = null;
  delete run.turn.unfinished;
  showRunning();
  fillTurn(run.turn);
  save(run.conversation);
}

function stop() {
  if (!running) return;
  running.controller.abort();
  running.turn.stats = [running.turn.stats, "stopped"].filter(Boolean).join(" · ");
  finish(running);
}

// Draws at most once a frame, however fast tokens come.
async function receive(run, body) {
  const {turn} = run;
  const begun = performance.now();
  let first = 0, count = 0, cut = false, drawing = false, saved = begun;
  const draw = () => {
    drawing = false;
    if (running !== run) return;
    const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    fillTurn(turn);
    if (follow) log.scrollTop = log.scrollHeight;
  };
  for await (const event of stream(body, run.controller.signal)) {
    if (running !== run) return;
    const now = performance.now();
    const choice = event.choices[0];
    for (const token of choice?.logprobs?.content ?? []) {
      turn.tokens.push({token: token.token, logprob: token.logprob, top: token.top_logprobs});
    }
    if (choice?.delta.content) {
      first ||= now;
      ++count;
      turn.content += choice.delta.content;
    }
    if (event.usage) count = event.usage.completion_tokens;
    if (choice?.finish_reason === "length") cut = true;
    turn.stats = statsOf(count, first - begun, now - first, cut);
    if (now - saved > saveEvery) {
      saved = now;
      save(run.conversation);
    }
    if (!drawing) {
      drawing = true;
      requestAnimationFrame(draw);
    }
  }
}

// Milliseconds to the first token (below 0: no text came) and since then. One packet has no speed.
function statsOf(count, waited, since, cut) {
  if (count === 0) return undefined;
  return [
    count > 1 && waited >= 0 && since > 20 && `${((count - 1) / since * 1000).toFixed(1)} tok/s`,
    `${count} token${count === 1 ? "" : "s"}`,
    waited >= 0 && `first after ${(waited / 1000).toFixed(2)} s`,
    cut && "cut at its longest",
  ].filter(Boolean).join(" · ");
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

// What Esc closes or ends: what lies on top goes first.
function escape() {
  if (drawerOpen()) closeDrawer();
  else if (settingsOpen()) leaveSettings();
  else stop();
}

function leaveSettings() {
  openSettings(false);
  $("toggle-settings").focus();
}

function bindKeys() {
  input.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && !event.isComposing) escape();
    if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "o") {
      event.preventDefault();
      startNew();
    }
  });
}

function bind() {
  $("new").addEventListener("click", startNew);
  $("clear").addEventListener("click", removeAll);
  $("stop").addEventListener("click", stop);
  $("compose").addEventListener("submit", event => { event.preventDefault(); send(); });
  $("toggle-live").addEventListener("click", () => $("toggle-live").setAttribute("aria-expanded", String(toggleLive())));
  input.addEventListener("input", grow);
}

// A phone ends pages that are hidden without another word; a page that is left sees its connections end, which is no news.
function bindLeaving() {
  const keep = () => { if (running) save(running.conversation); };
  document.addEventListener("visibilitychange", () => { if (document.hidden) keep(); });
  addEventListener("pagehide", () => {
    keep();
    running = null;
  });
  addEventListener("pageshow", event => { if (event.persisted) show(current); });
}

// Another tab changed the list. A question that is being edited here is at work here.
function bindOthers() {
  followOthers(one => running?.conversation === one || (current === one && editing()), () => {
    if (current && !conversations.includes(current)) current = null;
    showSidebar();
    if (!running && !editing()) showLog();
  });
}

let refused = false;       // the key as it is now; nobody wants the settings to open by themselves again and again
let openedForKey = false;  // so they close by themselves, too

function wantKey() {
  refused = openedForKey = true;
  askForKey();
}

function bindServer() {
  bindSettings(() => { refused = false; checkModel(); });
  watchModel(found => {
    limitPictures(found.max_images, found.max_image_bytes);
    if (openedForKey) openSettings(false);
    refused = openedForKey = false;
    if (model === found.id) return;
    model = found.id;
    if (!current) showLog();
  }, () => { if (!refused) wantKey(); });
}

bind();
bindKeys();
bindSidebar();
bindTurns(turn => turn === running?.turn, askAgain);
bindLeaving();
bindOthers();
bindPictures(() => (current?.turns ?? []).reduce((sum, turn) => sum + (turn.refused ? 0 : turn.pictures?.length ?? 0), 0));
bindServer();
show(conversations[0] ?? null);
