// Markdown to DOM nodes. A model's text is not trusted: it becomes text nodes and elements that are made here,
// never HTML; links lead to http, https and mailto only.

const fenced = /^\s{0,3}(```+|~~~+)\s*([\w+#.-]*)\s*$/;
const item = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const inlinePattern = /(`+)([^`]|[^`].*?[^`])\1(?!`)|\*\*(?=\S)(.+?)\*\*|__(?=\S)(.+?)__|\*(?=\S)([^*]+?)\*|(?<!\w)_(?=\S)([^_]+?)_(?!\w)|~~(.+?)~~|\[([^\]]*)\]\(([^)\s]+)\)|(https?:\/\/[^\s<>()]+[^\s<>().,;:!?'"])/s;
const deepest = 8;

export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function link(address, label) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return label;
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return label;
  return element("a", {href: url.href, rel: "noopener noreferrer nofollow", target: "_blank"}, ...label);
}

function inline(text, depth = 0) {
  const out = [];
  let rest = text;
  while (rest) {
    const match = depth < deepest ? inlinePattern.exec(rest) : null;
    if (!match) {
      out.push(rest);
      break;
    }
    if (match.index) out.push(rest.slice(0, match.index));
    const [all, , code, bold, bold2, soft, soft2, gone, label, address, bare] = match;
    if (code !== undefined) out.push(element("code", {}, code.trim() || code));
    else if (bold ?? bold2) out.push(element("strong", {}, ...inline(bold ?? bold2, depth + 1)));
    else if (soft ?? soft2) out.push(element("em", {}, ...inline(soft ?? soft2, depth + 1)));
    else if (gone) out.push(element("del", {}, ...inline(gone, depth + 1)));
    else {
      const made = link(bare ?? address, bare ? [bare] : inline(label, depth + 1));
      out.push(...(Array.isArray(made) ? made : [made]));
    }
    rest = rest.slice(match.index + all.length);
  }
  return out;
}

// navigator.clipboard is not there on a page that came over plain HTTP from another machine.
async function toClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = element("textarea", {value: text, className: "skip"});
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// `text()` gives what is copied.
export function copyButton(text) {
  const copy = element("button", {className: "quiet", type: "button", onclick: async () => {
    await toClipboard(text());
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1200);
  }}, "Copy");
  return copy;
}

function codeBlock(language, text) {
  return element("div", {className: "code"},
    element("div", {className: "bar"}, element("span", {}, language), copyButton(() => text)),
    element("pre", {tabIndex: 0}, element("code", {}, text)));
}

const cells = line => line.trim().replace(/^\||\|$/g, "").split("|").map(cell => cell.trim());
const isRule = line => /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(line) && line.includes("-");

function table(lines) {
  const row = (line, kind) => element("tr", {}, ...cells(line).map(cell => element(kind, {}, ...inline(cell))));
  return element("div", {className: "scroll"}, element("table", {},
    element("thead", {}, row(lines[0], "th")),
    element("tbody", {}, ...lines.slice(2).map(line => row(line, "td")))));
}

function list(lines, depth) {
  const first = item.exec(lines[0]);
  const ordered = /\d/.test(first[2]);
  const out = element(ordered ? "ol" : "ul", ordered ? {start: parseInt(first[2], 10)} : {});
  const indent = first[1].length;
  let content = [];
  const close = () => { if (content.length) out.append(element("li", {}, ...blocks(content, depth + 1))); };
  for (const line of lines) {
    const match = item.exec(line);
    if (match && match[1].length <= indent + 1) {
      close();
      content = [match[3]];
    } else {
      content.push(line.replace(/^\s{1,4}/, ""));
    }
  }
  close();
  return out;
}

function blocks(lines, depth = 0) {
  const out = [];
  let paragraph = [];
  const flush = () => {
    if (!paragraph.length) return;
    const nodes = paragraph.flatMap((line, i) => (i ? [element("br"), ...inline(line)] : inline(line)));
    out.push(element("p", {}, ...nodes));
    paragraph = [];
  };
  for (let i = 0; i < lines.length; ++i) {
    const line = lines[i];
    const fence = fenced.exec(line);
    if (fence) {
      flush();
      const text = [];
      for (++i; i < lines.length && !lines[i].trim().startsWith(fence[1]); ++i) text.push(lines[i]);
      out.push(codeBlock(fence[2], text.join("\n")));
    } else if (!line.trim()) {
      flush();
    } else if (/^#{1,6}\s/.test(line)) {
      flush();
      const level = line.indexOf(" ");
      out.push(element(`h${Math.min(6, level + 2)}`, {}, ...inline(line.slice(level + 1).trim())));
    } else if (/^\s{0,3}([-*_])(\s*\1){2,}\s*$/.test(line)) {
      flush();
      out.push(element("hr"));
    } else if (line.includes("|") && i + 1 < lines.length && isRule(lines[i + 1]) && lines[i + 1].includes("|")) {
      flush();
      const rows = [];
      for (; i < lines.length && lines[i].includes("|"); ++i) rows.push(lines[i]);
      --i;
      out.push(table(rows));
    } else if (depth < deepest && line.startsWith(">")) {
      flush();
      const quoted = [];
      for (; i < lines.length && lines[i].startsWith(">"); ++i) quoted.push(lines[i].replace(/^>\s?/, ""));
      --i;
      out.push(element("blockquote", {}, ...blocks(quoted, depth + 1)));
    } else if (depth < deepest && item.test(line)) {
      flush();
      const items = [];
      for (; i < lines.length && (item.test(lines[i]) || (/^\s+\S/.test(lines[i]))); ++i) items.push(lines[i]);
      --i;
      out.push(list(items, depth));
    } else {
      paragraph.push(line);
    }
  }
  flush();
  return out;
}

export function render(text) {
  return blocks(text.split("\n"));
}
