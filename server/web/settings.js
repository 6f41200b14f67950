// The settings: how replies are sampled, the colours, the key.
import {getKey, setKey} from "./api.js";
import {saveSettings, settings} from "./store.js";

const $ = id => document.getElementById(id);

// A number within the field's bounds, and a whole one where it counts things.
function bounded(field) {
  if (field.type !== "number" || field.value === "") return field.value;
  let number = Number(field.value);
  if (field.step === "1") number = Math.round(number);
  if (field.min !== "") number = Math.max(number, Number(field.min));
  if (field.max !== "") number = Math.min(number, Number(field.max));
  return number === Number(field.value) ? field.value : String(number);
}

function applyTheme() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
}

export function openSettings(open) {
  $("settings").hidden = !open;
  $("toggle-settings").setAttribute("aria-expanded", String(open));
}

export const settingsOpen = () => !$("settings").hidden;

export function askForKey() {
  openSettings(true);
  $("key").focus();
  $("key").select();
}

// `keyChanged()` runs when another key was entered.
export function bindSettings(keyChanged) {
  for (const name of Object.keys(settings)) {
    const field = $(name);
    if (!field) continue;
    const box = field.type === "checkbox";
    if (box) field.checked = settings[name];
    else field.value = settings[name];
    const take = () => {
      settings[name] = box ? field.checked : bounded(field);
      saveSettings();
      applyTheme();
    };
    if (!box) settings[name] = bounded(field);
    field.addEventListener("input", take);
    field.addEventListener("change", () => { if (!box) field.value = settings[name]; });
  }
  applyTheme();
  $("key").value = getKey();
  $("key").addEventListener("change", () => { setKey($("key").value.trim()); keyChanged(); });
  $("settings").addEventListener("submit", event => event.preventDefault());
  $("toggle-settings").addEventListener("click", () => openSettings(!settingsOpen()));
}
