// The schema as introspection tells it, to click through and to take fields from.

import { element } from "./element.js";

const TYPE = "kind name ofType { kind name ofType { kind name ofType { kind name } } }";
const VALUE = `name description defaultValue type { ${TYPE} }`;
export const INTROSPECTION = `query Introspection {
  __schema { queryType { name } mutationType { name } types { kind name description
    fields(includeDeprecated: true) { name description deprecationReason args { ${VALUE} } type { ${TYPE} } }
    inputFields { ${VALUE} } enumValues(includeDeprecated: true) { name description } possibleTypes { name } } }
}`;

// Shows a schema in a panel; `take(text, root)` is called with what a field looks like in a query, and "query" or "mutation" where it is one's own.
export class SchemaPanel {
  constructor(panel, search, take) {
    Object.assign(this, { panel, search, take, types: new Map(), trail: [] });
    search.addEventListener("input", () => (search.value ? this.find(search.value) : this.draw()));
  }

  load(schema) {
    this.types = new Map(schema.types.filter(({ name }) => !name.startsWith("__")).map((type) => [type.name, type]));
    this.trail = [schema.queryType.name];
    this.roots = new Map([[schema.queryType, "query"], [schema.mutationType, "mutation"]].filter(([type]) => type).map(([{ name }, kind]) => [name, kind]));
    this.search.disabled = false;
    this.draw();
  }

  say(text) {
    this.search.disabled = true;
    this.panel.replaceChildren(element("p", { className: "hint" }, text));
  }

  open(name) {
    if (this.trail.at(-1) !== name) this.trail.push(name);
    this.search.value = "";
    this.draw();
  }

  draw() {
    const type = this.types.get(this.trail.at(-1));
    const roots = [...this.roots.keys()].map((name) => this.link(name, () => this.open(name)));
    const back = element("button", { type: "button", className: "link", onclick: () => this.trail.pop() && this.draw() }, "‹ back");
    this.panel.replaceChildren(
      element("nav", {}, ...roots, ...(this.trail.length > 1 ? [back] : [])),
      element("h3", {}, type.name, element("small", {}, type.kind.toLowerCase().replace("_", " "))),
      ...described(type),
      ...(type.fields ?? []).map((field) => this.field(field, type)),
      ...(type.inputFields ?? []).map((field) => this.value(field)),
      ...(type.enumValues ?? []).map((each) => element("div", { className: "field" }, element("b", {}, each.name), ...described(each))),
      ...(type.possibleTypes ?? []).map(({ name }) => element("div", { className: "field" }, this.link(name, () => this.open(name)))),
    );
    this.panel.scrollTop = 0;
  }

  find(words) {
    const wanted = words.toLowerCase();
    const found = [...this.types.values()].flatMap((type) => [
      ...(type.name.toLowerCase().includes(wanted) ? [[type.name, type]] : []),
      ...(type.fields ?? type.inputFields ?? [])
        .filter(({ name }) => name.toLowerCase().includes(wanted))
        .map(({ name }) => [`${type.name}.${name}`, type]),
    ]);
    const most = 100;
    this.panel.replaceChildren(
      ...found.slice(0, most).map(([text, { name }]) => element("div", { className: "field" }, this.link(text, () => this.open(name)))),
      element("p", { className: "hint" }, found.length > most ? `and ${found.length - most} more` : found.length ? "" : "Nothing is called that."),
    );
  }

  field(field, owner) {
    const below = innermost(field.type);
    const add = element("button", { type: "button", className: "add", title: `Put ${field.name} into the query` }, "+");
    add.addEventListener("click", () => {
      this.take(this.snippet(field), this.roots.get(owner.name));
      const inner = this.rows(below) ?? below;
      if (this.types.get(inner)?.fields) this.open(inner);
    });
    const line = element("div", {}, element("b", {}, field.name), ": ", this.typed(field.type));
    const about = field.deprecationReason ? [element("p", { className: "warning" }, `Deprecated: ${field.deprecationReason}`)] : [];
    const given = field.args.length
      ? [element("details", {}, element("summary", {}, field.args.map(({ name }) => name).join(", ")), ...field.args.map((arg) => this.value(arg)))]
      : [];
    const insertable = owner.kind === "OBJECT" || owner.kind === "INTERFACE";
    return element("div", { className: "field" }, ...(insertable ? [add] : []), line, ...about, ...described(field), ...given);
  }

  value({ name, type, defaultValue, ...rest }) {
    const set = defaultValue === null ? "" : ` = ${defaultValue}`;
    return element("div", { className: "field" }, element("b", {}, name), ": ", this.typed(type), set, ...described(rest));
  }

  typed(type) {
    const name = innermost(type);
    const [before, after] = written(type).split(name);
    const built = this.types.get(name);
    const plain = !built || (built.kind === "SCALAR" && !built.description);
    return element("code", {}, before, plain ? name : this.link(name, () => this.open(name)), after);
  }

  link(text, onclick) {
    return element("button", { type: "button", className: "link", onclick }, text);
  }

  // The type of the rows, where the type of this name is a page of them.
  rows(name) {
    const nodes = this.types.get(name)?.fields?.find((field) => field.name === "nodes");
    return nodes && innermost(nodes.type);
  }

  // A field as it stands in a query: what it needs filled in to be changed, and | where its own fields go.
  snippet({ name, args, type }) {
    const needed = args.filter((arg) => arg.type.kind === "NON_NULL" && arg.defaultValue === null);
    const paged = args.some((arg) => arg.name === "first") ? ["first: 5"] : [];
    const given = [...paged, ...needed.map((arg) => `${arg.name}: ${this.sample(arg.type)}`)].join(", ");
    const call = given ? `${name}(${given})` : name;
    const below = innermost(type);
    const rows = this.rows(below);
    if (rows) return `${call} {\n  nodes {\n    ${this.first(rows)}|\n  }\n}`;
    return this.types.get(below)?.fields ? `${call} {\n  ${this.first(below)}|\n}` : `${call}|`;
  }

  // A field that a selection can begin with, since none may be empty.
  first(name) {
    const leaf = this.types.get(name).fields.find((field) => !this.types.get(innermost(field.type))?.fields && !field.args.length);
    return leaf?.name ?? "__typename";
  }

  sample(type) {
    if (type.kind === "NON_NULL") return this.sample(type.ofType);
    if (type.kind === "LIST") return `[${this.sample(type.ofType)}]`;
    const built = this.types.get(type.name);
    if (built?.enumValues) return built.enumValues[0].name;
    if (built?.inputFields) {
      const needed = built.inputFields.filter((field) => field.type.kind === "NON_NULL" && field.defaultValue === null);
      return `{${needed.map((field) => `${field.name}: ${this.sample(field.type)}`).join(", ")}}`;
    }
    return { Int: "1", Float: "1.0", Boolean: "true" }[type.name] ?? '""';
  }
}

function innermost(type) {
  return type.ofType ? innermost(type.ofType) : type.name;
}

function written(type) {
  if (type.kind === "NON_NULL") return `${written(type.ofType)}!`;
  return type.kind === "LIST" ? `[${written(type.ofType)}]` : type.name;
}

function described({ description }) {
  return description ? [element("p", {}, description)] : [];
}
