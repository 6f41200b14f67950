// Pictures that the next message carries: picked, dropped or pasted, shown above the message box.
import {element} from "./markdown.js";

const most = 16;            // of a message, as the server takes
const mostBytes = 2 << 20;  // larger files are made smaller: a vision tower sees some hundred pixels a side
const longestSide = 1536;

let pictures = [];  // data: URLs
let enabled = false;
const $ = id => document.getElementById(id);

function toDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("the file cannot be read"));
    reader.readAsDataURL(file);
  });
}

async function smaller(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, longestSide / Math.max(bitmap.width, bitmap.height));
  const canvas = element("canvas", {width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale)});
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.92);
}

async function add(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/") || pictures.length >= most) continue;
    try {
      const known = /^image\/(png|jpeg|webp)$/.test(file.type);
      pictures.push(known && file.size <= mostBytes ? await toDataUrl(file) : await smaller(file));
    } catch {
      continue;  // no picture after all
    }
  }
  show();
}

function show() {
  $("pictures").hidden = pictures.length === 0;
  $("pictures").replaceChildren(...pictures.map((url, at) => element("button", {
    type: "button", className: "quiet", title: "Remove this picture", "aria-label": `Remove picture ${at + 1}`,
    onclick: () => { pictures.splice(at, 1); show(); },
  }, thumbnail(url))));
}

export const thumbnail = url => element("img", {src: url, alt: "Picture"});

export function takePictures() {
  const taken = pictures;
  pictures = [];
  show();
  return taken;
}

export function enablePictures(takes) {
  enabled = takes;
  $("pick").hidden = !takes;
}

export function bindPictures() {
  $("pick").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => { add([...$("file").files]); $("file").value = ""; });
  document.addEventListener("dragover", event => { if (enabled) event.preventDefault(); });
  document.addEventListener("drop", event => {
    if (!enabled || !event.dataTransfer.files.length) return;
    event.preventDefault();
    add([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", event => { if (enabled) add([...event.clipboardData.files]); });
}
