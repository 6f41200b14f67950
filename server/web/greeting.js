// What an empty conversation shows: who answers, and something to begin with.
import {element} from "./markdown.js";

const examples = [
  "Explain how a language model picks its next word.",
  "Write a haiku about a llama in the mountains.",
  "Give me three ideas for a quick dinner.",
];

// `model` is its name, or empty while nobody knows it; `ask(text)` sends an example.
export function greeting(model, ask) {
  const icon = document.querySelector("link[rel=icon]").href;
  return element("section", {className: "greeting", "aria-label": "Welcome"},
    element("img", {src: icon, alt: "", width: 56, height: 56}),
    element("h2", {}, "What shall we talk about?"),
    element("p", {}, model ? element("strong", {}, model) : "The model", " answers here. Write below, or begin with one of these:"),
    element("div", {className: "examples"},
      ...examples.map(text => element("button", {type: "button", onclick: () => ask(text)}, text))));
}
