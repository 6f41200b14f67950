// Pictures that the next message carries: picked, dropped or pasted, shown above the message box.
import {element} from "./markdown.js";

// Larger ones are made smaller: a vision tower sees some hundred pixels a side, and eight of these, in base64, fit the
// five million characters that a browser's storage holds.
const keptBytes = 384 << 10, longestSide = 1024;

let pictures = [];                // data: URLs
let most = {images: 0, bytes: 0};  // the server's limits; images 0: the model takes none
let shownBefore = () => 0;        // how many pictures the conversation has already
let adding = Promise.resolve();   // while files are read
const $ = id => document.getElementById(id);

const size = bytes => bytes < 1 << 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`;

function say(text) {
  $("note").hidden = !text;
  $("note").textContent = text;
}

function toDataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("cannot be read"));
    reader.readAsDataURL(blob);
  });
}

function smaller(bitmap) {
  const scale = Math.min(1, longestSide / Math.max(bitmap.width, bitmap.height));
  const canvas = element("canvas", {width: Math.max(1, Math.round(bitmap.width * scale)),
                                    height: Math.max(1, Math.round(bitmap.height * scale))});
  const context = canvas.getContext("2d");
  context.fillStyle = "white";  // JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise(resolve => canvas.toBlob(resolve, "image/jpeg", 0.9));
}

// The file's data: URL; throws what is wrong with it, to be said behind its name.
async function read(file) {
  const checkSize = blob => {
    if (blob.size > most.bytes) throw new Error(`has ${size(blob.size)}, and a picture may have at most ${size(most.bytes)}`);
    return blob;
  };
  if (!file.type.startsWith("image/")) throw new Error("is no picture; PNG, JPEG and WebP are taken");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error("is broken, or a kind of picture that this browser cannot read; PNG, JPEG and WebP are taken");
  }
  try {
    const fits = /^image\/(png|jpeg|webp)$/.test(file.type) && file.size <= Math.min(keptBytes, most.bytes) &&
      Math.max(bitmap.width, bitmap.height) <= longestSide;
    return await toDataUrl(fits ? file : checkSize(await smaller(bitmap)));
  } finally {
    bitmap.close();
  }
}

async function addAll(files) {
  const problems = [];
  for (const file of files) {
    const name = file.name || "The file";
    if (pictures.length + shownBefore() >= most.images) {
      problems.push(`${name} was left out: a conversation may have at most ${most.images} picture${most.images === 1 ? "" : "s"}.`);
      break;
    }
    try {
      pictures.push(await read(file));
      show();
    } catch (error) {
      problems.push(`${name} ${error.message}.`);
    }
  }
  say(problems.join(" "));
}

function add(files) {
  if (!most.images) return say("This model takes no pictures.");
  adding = adding.then(() => addAll(files));
}

function show() {
  $("pictures").hidden = pictures.length === 0;
  $("pictures").replaceChildren(...pictures.map((url, at) => element("button", {
    type: "button", className: "picture", title: "Remove this picture", "aria-label": `Remove picture ${at + 1}`,
    onclick: () => { pictures.splice(at, 1); say(""); show(); $("input").focus(); },
  }, thumbnail(url), element("span", {"aria-hidden": "true"}, "✕"))));
}

export const thumbnail = url => element("img", {src: url, alt: "Picture"});

// Resolves when all files that were given so far are read.
export const picturesRead = () => adding;
export const anyPictures = () => pictures.length > 0;

export function takePictures() {
  const taken = pictures;
  pictures = [];
  say("");
  show();
  return taken;
}

export function limitPictures(images, bytes) {
  most = {images, bytes};
  $("pick").hidden = !images;
}

// Files may be dropped anywhere: beside the page's own use of them, the browser would leave the page for the file.
function bindDrop() {
  const holdsFiles = event => event.dataTransfer?.types.includes("Files");
  const mark = shown => document.body.classList.toggle("dropping", shown && most.images > 0);
  document.addEventListener("dragover", event => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", event => { if (!event.relatedTarget) mark(false); });
  document.addEventListener("drop", event => {
    mark(false);
    if (!holdsFiles(event)) return;
    event.preventDefault();
    add([...event.dataTransfer.files]);
  });
}

// `inConversation`: how many pictures the turns that are shown have.
export function bindPictures(inConversation) {
  shownBefore = inConversation;
  $("pick").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    add([...$("file").files]);
    $("file").value = "";
  });
  document.addEventListener("paste", event => {
    const files = [...event.clipboardData.files];
    if (files.length) add(files);
  });
  bindDrop();
}
