// Conversations and settings in the browser's storage. Token probabilities are not kept: they are large.
const standard = {system: "", temperature: 0.7, top_p: 0.95, top_k: 0, min_p: 0, repetition_penalty: 1,
                  max_tokens: "", seed: "", theme: "", logprobs: true};

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export const settings = {...standard, ...read("settings", {})};
export const conversations = read("conversations", []);

export function saveSettings() {
  localStorage.setItem("settings", JSON.stringify(settings));
}

function write(toStored) {
  try {
    localStorage.setItem("conversations", JSON.stringify(
      conversations.map(one => ({...one, turns: one.turns.map(({tokens, ...turn}) => toStored(turn))}))));
    return true;
  } catch {
    return false;
  }
}

// When the storage is full the oldest conversations go, but for `current`; if that one is too large by itself, its
// pictures are not kept over a reload.
export function saveConversations(current) {
  while (!write(turn => turn)) {
    const oldest = conversations.filter(one => one !== current).pop();
    if (!oldest) {
      write(({pictures, ...turn}) => pictures ? {...turn, lost: pictures.length} : turn);
      return;
    }
    conversations.splice(conversations.indexOf(oldest), 1);
  }
}
