// The list of conversations, beside the page; on a phone a drawer over it.
import {element} from "./markdown.js";
import {conversations} from "./store.js";

const $ = id => document.getElementById(id);
const narrow = matchMedia("(max-width: 52em)");

export const drawerOpen = () => $("sidebar").classList.contains("open");

// While the drawer is open the rest of the page takes no focus; where it was opened from gets it back.
function setDrawer(open) {
  $("sidebar").classList.toggle("open", open);
  $("shade").hidden = !open;
  $("toggle-list").setAttribute("aria-expanded", String(open));
  document.querySelector("main").inert = $("live").inert = open;
}

export function closeDrawer() {
  if (!drawerOpen()) return;
  setDrawer(false);
  $("toggle-list").focus();
}

export function showList(current, pick, remove) {
  $("list").replaceChildren(...conversations.map(one => element("li", {className: one === current ? "here" : ""},
    element("button", {className: "name", "aria-current": String(one === current), onclick: () => pick(one)}, one.title),
    element("button", {className: "quiet", "aria-label": `Delete ${one.title}`, onclick: () => remove(one)}, "✕"))));
}

export function bindSidebar() {
  $("toggle-list").addEventListener("click", () => { setDrawer(true); $("close-list").focus(); });
  for (const id of ["close-list", "shade"]) $(id).addEventListener("click", closeDrawer);
  narrow.addEventListener("change", () => setDrawer(false));
}
