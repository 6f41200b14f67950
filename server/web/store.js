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

// When the storage is full the oldest conversations go.
export function saveConversations() {
  for (;;) {
    const light = conversations.map(one => ({...one, turns: one.turns.map(({tokens, ...turn}) => turn)}));
    try {
      localStorage.setItem("conversations", JSON.stringify(light));
      return;
    } catch {
      if (conversations.length <= 1) return;
      conversations.pop();
    }
  }
}
