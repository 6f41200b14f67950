// The panel that shows what the engine is doing, from /live twice a second while it is open.
import {get} from "./api.js";
import {element} from "./markdown.js";

const panel = document.getElementById("live");
const rows = {};
const history = [];
const most = 120;
let last = null, timer = 0;

const graph = element("canvas", {width: 480, height: 120, role: "img", "aria-label": "tokens a second, over the last minute"});
const meter = element("meter", {min: 0, max: 1, value: 0, "aria-label": "KV blocks in use"});

function row(list, key, label) {
  rows[key] = element("dd", {}, "–");
  list.append(element("dt", {}, label), rows[key]);
}

function build() {
  const now = element("dl"), cache = element("dl"), sum = element("dl");
  row(now, "running", "Running");
  row(now, "waiting", "Waiting");
  row(now, "rate", "Tokens a second");
  row(now, "prefill", "Prefill tokens, last step");
  row(now, "decode", "Decode tokens, last step");
  row(now, "step", "Last step, ms");
  row(cache, "used", "KV blocks used");
  row(cache, "shared", "Shared by sequences");
  row(cache, "kept", "Kept for later");
  row(cache, "hits", "Prefix hits");
  row(sum, "prompt", "Prompt tokens computed");
  row(sum, "generated", "Tokens generated");
  row(sum, "preemptions", "Preemptions");
  panel.append(element("h2", {}, "Now"), now, graph, element("h2", {}, "KV cache"), meter, cache,
               element("h2", {}, "Since the start"), sum);
}

function draw() {
  const context = graph.getContext("2d");
  const {width, height} = graph;
  const top = Math.max(1, ...history);
  context.clearRect(0, 0, width, height);
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  history.forEach((rate, i) => {
    const tall = rate / top * (height - 4);
    context.fillRect(width - (history.length - i) * width / most, height - tall, width / most - 1, tall);
  });
}

function show(stats) {
  const at = performance.now();
  const rate = last ? Math.max(0, (stats.generated_tokens - last.generated) / (at - last.at) * 1000) : 0;
  last = {generated: stats.generated_tokens, at};
  history.push(rate);
  if (history.length > most) history.shift();
  const texts = {
    running: stats.running, waiting: stats.waiting, rate: rate.toFixed(1), prefill: stats.step_prefill_tokens,
    decode: stats.step_decode_tokens, step: (1000 * stats.step_seconds).toFixed(1),
    used: `${stats.blocks_used} of ${stats.blocks}`, shared: stats.blocks_shared, kept: stats.blocks_kept,
    hits: stats.prefix_query_tokens ? `${(100 * stats.prefix_hit_tokens / stats.prefix_query_tokens).toFixed(0)} %` : "–",
    prompt: stats.prompt_tokens, generated: stats.generated_tokens, preemptions: stats.preemptions,
  };
  for (const [key, text] of Object.entries(texts)) rows[key].textContent = text;
  meter.value = stats.blocks ? stats.blocks_used / stats.blocks : 0;
  draw();
}

async function poll() {
  try {
    if (!document.hidden) show(await get("/live"));
  } catch {
    last = null;
  }
  if (!panel.hidden) timer = setTimeout(poll, 500);
}

export function toggleLive() {
  if (!panel.childNodes.length) build();
  panel.hidden = !panel.hidden;
  clearTimeout(timer);
  if (!panel.hidden) poll();
  return !panel.hidden;
}
