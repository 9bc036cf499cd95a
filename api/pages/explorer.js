// The GraphQL explorer. Credentials and the token are values of this page's inputs and nowhere else: not in a URL, a cookie or a storage.

import { colour, coloured, insert } from "./editor.js";
import { element } from "./element.js";
import { INTROSPECTION, SchemaPanel } from "./schema.js";

const UNTOLD = "Introspection is switched off on this server, so its schema is not told here. Queries run all the same.";
const at = (id) => document.getElementById(id);
const base = new URL(".", location.href);
const panel = new SchemaPanel(at("panel"), at("search"), take);

// Asks our own server; no cookie goes along, and a refusal never brings up the browser's own dialogue.
async function post(path, headers, body) {
  const begun = performance.now();
  const answer = await fetch(new URL(path, base), { method: "POST", headers, body, credentials: "omit", cache: "no-store" });
  const text = await answer.text();
  let read = null;
  try {
    read = JSON.parse(text);
  } catch {} // not JSON, from something between here and the server: shown as it is
  return { status: answer.status, text, read, milliseconds: Math.round(performance.now() - begun) };
}

function ask(query, variables, operationName) {
  const headers = { Authorization: `Bearer ${at("token").value.trim()}`, "Content-Type": "application/json", Accept: "application/json" };
  return post("graphql", headers, JSON.stringify({ query, variables, operationName }));
}

// The token, and how it stands.

function stand(text, state = "") {
  if (at("standing").textContent !== text) at("standing").textContent = text; // it is read aloud when it changes
  at("standing").className = state;
}

async function getToken() {
  const form = { grant_type: "client_credentials", client_id: at("client").value.trim(), client_secret: at("secret").value.trim() };
  const { status, read } = await post("oauth/token", {}, new URLSearchParams(form));
  if (status !== 200) return stand(read?.error_description ?? read?.detail ?? `The server answered ${status}.`, "bad");
  at("token").value = read.access_token;
  await tokenChanged();
}

// What a token says of itself (RFC 9068); nothing, where it is not one.
function claims() {
  try {
    const bytes = atob(at("token").value.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(bytes);
  } catch {
    return {};
  }
}

function tell() {
  const { exp, scope } = claims();
  if (!at("token").value || at("standing").className === "bad" || !exp) return;
  const left = Math.floor(exp - Date.now() / 1000);
  if (left <= 0) return stand("The token has expired. Get a new one.", "bad");
  stand(`Good for ${left < 60 ? "less than a minute" : `${Math.floor(left / 60)} min`} · ${scope}`, "good");
  at("standing").title = scope.replaceAll(" ", "\n");
}

async function tokenChanged() {
  stand("", "");
  tell();
  if (!at("token").value || at("standing").className === "bad") return;
  at("errors").replaceChildren(); // such as that a token is needed
  const { status, read } = await ask(INTROSPECTION);
  const [error] = read?.errors ?? [];
  if (read?.data?.__schema) return panel.load(read.data.__schema);
  if (status === 401) refuseToken();
  else if (error?.extensions?.code === "introspection-off") panel.say(UNTOLD);
  else panel.say(`The schema could not be read: ${error?.message ?? read?.detail ?? `the server answered ${status}`}`);
}

function refuseToken() {
  const text = "The token has expired or is not valid. Get a new one.";
  stand(text, "bad");
  show({ errors: [{ message: text }], text: "" });
}

// The question and its answer.

async function run() {
  if (!at("token").value) return show({ errors: [{ message: "A token is needed: give a client's id and secret above, or paste one." }], text: "" });
  let variables;
  try {
    variables = JSON.parse(at("variables").value.trim() || "{}");
  } catch (problem) {
    return show({ errors: [{ message: `The variables are not JSON: ${problem.message}` }], text: "" });
  }
  at("run").disabled = true;
  try {
    const { status, text, read, milliseconds } = await ask(at("query").value, variables, operationAtCursor());
    if (status === 401) return refuseToken();
    const errors = read?.errors ?? (status === 200 ? [] : [{ message: read?.detail ?? `The server answered ${status}.`, extensions: { problem: read } }]);
    const cost = read?.extensions?.cost === undefined ? "" : ` · cost ${read.extensions.cost.toLocaleString("en-GB")}`;
    show({ errors, text: read ? JSON.stringify(read, null, 2) : text });
    at("measure").textContent = `${status} · ${milliseconds} ms · ${(text.length / 1000).toFixed(1)} kB${cost}`;
  } catch {
    show({ errors: [{ message: "The server cannot be reached." }], text: "" });
  } finally {
    at("run").disabled = false;
  }
}

// Puts a field where the cursor is; one of a root's into the last operation, or into a new one where that is of the other kind.
function take(text, root) {
  const area = at("query");
  if (!root) return insert(area, text);
  const [last] = [...area.value.matchAll(/^\s*(query|mutation|\{)/gm)].slice(-1).map((match) => match[1].replace("{", "query"));
  const end = last === root ? area.value.trimEnd().length - 1 : area.value.length;
  const before = area.value.slice(0, end).trimEnd().length;
  area.setSelectionRange(before, before);
  if (last === root) return insert(area, text);
  const [name] = /\w+/.exec(text);
  insert(area, `${before ? "\n" : ""}${root} ${name[0].toUpperCase()}${name.slice(1)} {\n  ${text.replaceAll("\n", "\n  ")}\n}`);
}

// Where a document has several operations, the one that the cursor stands in.
function operationAtCursor() {
  const named = [...at("query").value.matchAll(/^\s*(?:query|mutation)\s+(\w+)/gm)];
  const before = named.filter((match) => match.index <= at("query").selectionStart);
  return named.length > 1 ? (before.at(-1) ?? named[0])[1] : undefined;
}

function show({ errors, text }) {
  at("measure").textContent = "";
  at("shown").replaceChildren(...coloured(text));
  at("errors").replaceChildren(...errors.map(told));
}

// One error: what it says, where, and the issues of its problem.
function told({ message, path, locations, extensions }) {
  const place = path?.join(".") ?? (locations ? `line ${locations[0].line}, column ${locations[0].column}` : "");
  const issues = (extensions?.problem?.issues ?? []).map((issue) => element("li", {}, element("code", {}, issue.at), ` ${issue.message}`));
  return element("div", {}, element("p", {}, message, place && element("small", {}, ` ${place}`)), element("ul", {}, ...issues));
}

for (const id of ["query", "variables"]) {
  colour(at(id));
  at(id).addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && run());
}
at("run").addEventListener("click", run);
at("token").addEventListener("change", tokenChanged);
at("credentials").addEventListener("submit", (event) => {
  event.preventDefault();
  getToken().catch(() => stand("The server cannot be reached.", "bad"));
});
at("query").setSelectionRange(...Array(2).fill(at("query").value.indexOf("phase")));
setInterval(tell, 1000);
