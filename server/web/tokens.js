// A reply token by token: underlined by how probable each was, the alternatives on hover or focus.
import {element} from "./markdown.js";

const tip = element("div", {id: "tip", role: "tooltip", hidden: true});
document.body.append(tip);

const percent = logprob => `${(100 * Math.exp(logprob)).toFixed(1).padStart(5)} %`;
const shown = text => JSON.stringify(text).slice(1, -1);

function show(target, token) {
  const others = token.top.filter(other => other.token !== token.token);
  tip.textContent = [`${percent(token.logprob)}  ${shown(token.token)}`, ...others.map(
    other => `${percent(other.logprob)}  ${shown(other.token)}`)].join("\n");
  tip.hidden = false;
  const at = target.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${at.bottom + tip.offsetHeight + 8 < innerHeight ? at.bottom + 4 : at.top - tip.offsetHeight - 4}px`;
}

function grade(logprob) {
  const p = Math.exp(logprob);
  return p > 0.9 ? "p0" : p > 0.6 ? "p1" : p > 0.3 ? "p2" : p > 0.1 ? "p3" : "p4";
}

export function renderTokens(tokens) {
  return element("div", {className: "tokens"}, ...tokens.map(token => {
    const span = element("span", {className: grade(token.logprob), tabIndex: 0}, token.token);
    const hide = () => { tip.hidden = true; };
    for (const event of ["mouseenter", "focus"]) span.addEventListener(event, () => show(span, token));
    for (const event of ["mouseleave", "blur"]) span.addEventListener(event, hide);
    return span;
  }));
}
