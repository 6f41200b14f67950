// Conversations and settings in the browser's storage, which all tabs share. Each conversation has its own key, so that tabs
// do not write over each other's, and each tab hears of what the others wrote. Token probabilities are not kept: they are large.
const standard = {system: "", temperature: 0.7, top_p: 0.95, top_k: 0, min_p: 0, repetition_penalty: 1,
                  max_tokens: "", seed: "", theme: "", logprobs: true};
const prefix = "chat:";

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export const settings = {...standard, ...read("settings", {})};
export const conversations = [];  // {id, at, title, turns}, the newest first

export function saveSettings() {
  localStorage.setItem("settings", JSON.stringify(settings));
}

// crypto.randomUUID() is not there on a page that came over plain HTTP.
const newId = at => `${at.toString(36)}-${Math.random().toString(36).slice(2, 10)}`;

function put(conversation) {
  conversations.push(conversation);
  conversations.sort((a, b) => b.at - a.at);
  return conversation;
}

export function begin(title, turns = [], at = Date.now()) {
  return put({id: newId(at), at, title, turns});
}

export function forget(conversation) {
  conversations.splice(conversations.indexOf(conversation), 1);
  localStorage.removeItem(prefix + conversation.id);
}

function write(conversation, toStored) {
  const turns = conversation.turns.map(({tokens, showTokens, ...turn}) => toStored(turn));
  try {
    localStorage.setItem(prefix + conversation.id, JSON.stringify({...conversation, turns}));
    return true;
  } catch (error) {
    return error.name !== "QuotaExceededError";  // a browser that keeps nothing is not helped by less
  }
}

// When the storage is full the oldest conversations go; if this one is too large by itself, its pictures are not kept over
// a reload.
export function save(conversation) {
  while (!write(conversation, turn => turn)) {
    const oldest = conversations.filter(one => one !== conversation).pop();
    if (!oldest) {
      write(conversation, ({pictures, ...turn}) => pictures ? {...turn, lost: pictures.length} : turn);
      return;
    }
    forget(oldest);
  }
}

// `busy(conversation)`: this tab is at it. What another tab writes under it then stands beside it, and nothing is lost;
// what another deletes stays. `changed()` draws.
export function followOthers(busy, changed) {
  addEventListener("storage", ({key, newValue}) => {
    if (!key?.startsWith(prefix)) return;
    const own = conversations.find(one => prefix + one.id === key);
    if (own && busy(own)) {
      if (newValue === null) return;
      own.id = newId(own.at);
      put(JSON.parse(newValue));
    } else if (newValue === null) {
      if (own) conversations.splice(conversations.indexOf(own), 1);
    } else if (own) {
      Object.assign(own, JSON.parse(newValue));
    } else {
      put(JSON.parse(newValue));
    }
    changed();
  });
}

function load() {
  const names = Object.keys(localStorage).filter(name => name.startsWith(prefix));
  for (const one of names.map(name => read(name, null))) {
    if (one) put(one);
  }
  // Earlier pages kept one list of all.
  const list = read("conversations", []);
  localStorage.removeItem("conversations");
  list.forEach(({title, turns}, i) => save(begin(title, turns, Date.now() - i)));
}

try {
  load();
} catch {
  // A browser that keeps nothing begins with nothing.
}
