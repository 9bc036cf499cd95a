// A text area with colours: the coloured text lies under it in a <pre>, and the area itself is transparent.

import { element } from "./element.js";

const TOKENS = new RegExp(
  [
    /(?<comment>#[^\n]*)/,
    /(?<key>"(?:[^"\\\n]|\\.)*"(?=\s*:))/,
    /(?<string>"""[^]*?"""|"(?:[^"\\\n]|\\.)*"?)/,
    /(?<number>-?\b\d[\d.eE+-]*)/,
    /(?<variable>[$@]\w+)/,
    /(?<argument>\b\w+(?=\s*:))/,
    /(?<word>\b(?:query|mutation|fragment|on|true|false|null)\b)/,
  ].map((each) => each.source).join("|"),
  "g",
);
const MOST_COLOURED = 200_000; // characters: colours for more would keep the browser busy for seconds

// GraphQL or JSON as nodes, each token a <span> of its class.
export function coloured(text) {
  if (text.length > MOST_COLOURED) return [text];
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    const [kind] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    nodes.push(text.slice(end, match.index), element("span", { className: kind }, match[0]));
    end = match.index + match[0].length;
  }
  return [...nodes, text.slice(end)];
}

// Gives a text area its colours, and indents a new line like the one before it.
export function colour(area) {
  const under = area.previousElementSibling;
  const paint = () => under.replaceChildren(...coloured(area.value), "\n");
  area.addEventListener("input", paint);
  area.addEventListener("scroll", () => under.scrollTo(area.scrollLeft, area.scrollTop));
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const before = area.value.slice(0, area.selectionStart);
    type(area, `\n${indentation(before)}${/[{([]\s*$/.test(before) ? "  " : ""}`);
  });
  paint();
}

// Puts text on a line of its own after the word at the cursor, as typed, so that it can be undone; the cursor goes where | stands in it.
export function insert(area, text) {
  area.focus();
  const cursor = area.selectionEnd + /^\w*/.exec(area.value.slice(area.selectionEnd))[0].length;
  area.setSelectionRange(cursor, cursor);
  const before = area.value.slice(0, cursor);
  const line = before.slice(before.lastIndexOf("\n") + 1);
  const margin = /\{\s*$/.test(line) && line.trim() ? `${indentation(before)}  ` : indentation(before);
  const [head, tail = ""] = `${line.trim() ? `\n${margin}` : ""}${text.replaceAll("\n", `\n${margin}`)}`.split("|");
  type(area, head + tail);
  area.setSelectionRange(area.selectionStart - tail.length, area.selectionStart - tail.length);
}

function type(area, text) {
  document.execCommand("insertText", false, text); // deprecated, and the only way that keeps the undo history of a text area
}

function indentation(before) {
  return /^ */.exec(before.slice(before.lastIndexOf("\n") + 1))[0];
}
