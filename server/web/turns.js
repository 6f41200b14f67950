// The turns of a conversation, each with what can be done with it.
import {copyButton, element, render} from "./markdown.js";
import {thumbnail} from "./pictures.js";
import {renderTokens} from "./tokens.js";

const log = document.getElementById("log");
let streams = () => false, askAgain = () => {};

// `streamed(turn)`: it is being written; `again(turn, text)` asks again from there on, where text is given with other words.
export function bindTurns(streamed, again) {
  streams = streamed;
  askAgain = again;
}

export const editing = () => log.querySelector(".turn textarea") !== null;

const button = (label, action) => element("button", {className: "quiet", type: "button", onclick: action}, label);

// A turn keeps its node beside what is stored.
export function showTurn(turn) {
  const label = turn.role === "user" ? "You" : "Model";
  const node = element("article", {className: `turn ${turn.role}`, "aria-label": label},
    element("div", {className: "body"}), element("div", {className: "tools"}));
  Object.defineProperty(turn, "node", {value: node, enumerable: false, configurable: true});
  fillTurn(turn);
  return node;
}

export function fillTurn(turn) {
  fillBody(turn);
  fillTools(turn);
}

function picturesOf(turn) {
  const shown = turn.pictures?.length ? [element("div", {className: "shown"}, ...turn.pictures.map(thumbnail))] : [];
  if (turn.lost) shown.push(element("em", {}, "(Its pictures did not fit the browser's storage.)\n"));
  if (turn.refused) shown.push(element("em", {}, "(The server refused its picture; later questions go without it.)\n"));
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
  if (streams(turn)) return tools.replaceChildren(element("span", {}, turn.stats ?? "…"));
  const copy = copyButton(() => turn.content);
  if (turn.role === "user") return tools.replaceChildren(button("Edit", () => edit(turn)), copy);
  const probabilities = turn.tokens?.length ? [button(turn.showTokens ? "Text" : "Tokens", () => {
    turn.showTokens = !turn.showTokens;
    fillTurn(turn);
  })] : [];
  const said = [turn.stats, turn.unfinished && "unfinished"].filter(Boolean).join(" · ");
  return tools.replaceChildren(button("Regenerate", () => askAgain(turn)), copy, ...probabilities, element("span", {}, said));
}

function edit(turn) {
  const area = element("textarea", {value: turn.content, rows: 4, "aria-label": "Edit the message"});
  turn.node.querySelector(".tools").replaceChildren(
    button("Send", () => askAgain(turn, area.value)), button("Cancel", () => fillTurn(turn)));
  turn.node.querySelector(".body").replaceChildren(...picturesOf(turn), area);
  area.focus();
}
