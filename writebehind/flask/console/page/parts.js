/** Parts that several views are made of. All text is text: nothing of the data becomes HTML. */

import { createElement, h } from "./vendor/preact.js";
import { UNKNOWN } from "./units.js";

/** The address of a document in the explorer. */
export function documentAddress(collection, id) {
  return `#explore/${encodeURIComponent(collection)}/${encodeURIComponent(id)}`;
}

/** A document's name, which leads to the explorer. */
export function DocumentLink({ collection, id }) {
  return h("a", { class: "id", href: documentAddress(collection, id) }, `${collection}/${id}`);
}

/** A state: a sign and a word, so that no colour has to tell it. `level` is ok, warn, bad or off. */
export function State({ level, children }) {
  return h("span", { class: `state ${level}` }, children);
}

/** A figure with its name below a title, and perhaps a line of explanation. */
export function Figure({ name, value, note, level = "", wide = false }) {
  return h(
    "div",
    { class: `figure ${level} ${wide ? "wide" : ""}` },
    h("dt", null, name),
    h("dd", null, h("span", { class: "value" }, value ?? UNKNOWN), note ? h("span", { class: "note" }, note) : null),
  );
}

/**
 * A table.
 *
 * @param columns each `{ name, cell, numeric, wide }`: `cell` makes what stands in the column of an item
 * @param keyOf what an item is called among the others
 * @param empty what is said where there is none
 * @param failed whether items were asked for in vain: another line says why
 * @param detail makes what stands below an item, if anything
 */
export function Table({ caption, columns, items, keyOf, empty, detail, failed = false }) {
  if (!items?.length) return items ? h("p", { class: "empty" }, empty) : h(Awaited, { failed });
  return h(
    "table",
    null,
    h("caption", { class: "hidden" }, caption),
    h("thead", null, h("tr", null, columns.map((one) => h("th", { scope: "col", class: one.numeric ? "number" : "" }, one.hidden ? h("span", { class: "hidden" }, one.name) : one.name)))),
    h(
      "tbody",
      null,
      items.map((item) => {
        const more = detail?.(item);
        const row = h(
          "tr",
          { key: keyOf(item) },
          columns.map((one) =>
            h("td", { class: `${one.numeric ? "number" : ""} ${one.wide ? "wide" : ""}`, "data-name": one.hidden ? "" : one.name }, h("div", null, one.cell(item))),
          ),
        );
        return more ? [row, h("tr", { key: `${keyOf(item)} more`, class: "more" }, h("td", { colSpan: columns.length }, more))] : row;
      }),
    ),
  );
}

/** What stands where nothing is known yet: it loads only where nothing went wrong. */
export function Awaited({ failed }) {
  return h("p", { class: "empty" }, failed ? "No figures yet." : "Loading …");
}

/** A part of a view under a heading. */
export function Panel({ title, note, tools, children, id }) {
  return h(
    "section",
    { class: "panel", id },
    h("header", null, h("h2", null, title), tools ?? null),
    note ? h("p", { class: "note" }, note) : null,
    children,
  );
}

/** What to do about what is wrong, as `writebehind doctor` says it, each with its chapter of the runbook. */
export function ToDo({ remedies }) {
  if (!remedies?.length) return null;
  return h(
    "ul",
    { class: "todo", "aria-label": "What to do" },
    [...remedies].sort((one, other) => isWorse(other) - isWorse(one)).map((one) =>
      h("li", { key: one.about }, h("strong", null, `${one.about}: `), breakable(`${one.advice}. `), h("a", { href: one.runbook, target: "_blank", rel: "noopener noreferrer" }, "Runbook")),
    ),
  );
}

/** Whether something that is to be done comes before what is to be looked at today. */
const isWorse = (remedy) => Number(remedy.severity === "critical");

/** A text whose long names of settings may break after an underscore, and not within a word. */
export function breakable(text) {
  return text.split(/(?<=_)/).flatMap((one, place) => (place ? [h("wbr", { key: place }), one] : [one]));
}

/** A line that says why something cannot be shown. */
export function Trouble({ feed }) {
  return feed.error ? h("p", { class: "trouble", role: "status" }, said(feed.error)) : null;
}

/** An ApiError in one line. */
export function said(error) {
  return error.status ? `The API answers ${error.status}: ${error.message}` : `The API does not answer: ${error.message}.`;
}

/** A document, as JSON on many lines; those that another one does not have are marked. */
export function Json({ value, other, label }) {
  const theirs = other ? new Set(lines(other).map(bare)) : null;
  return h(
    "pre",
    { class: "json", tabIndex: 0, role: "region", "aria-label": label },
    lines(value).map((one, place) => h("span", { key: place, class: theirs && !theirs.has(bare(one)) ? "differs" : "" }, `${one}\n`)),
  );
}

const lines = (value) => JSON.stringify(value, null, 2).split("\n");
const bare = (line) => line.replace(/,$/, "");

/** A button. */
export function Button({ children, onClick, kind = "", ...rest }) {
  return createElement("button", { type: "button", class: kind, onClick, ...rest }, children);
}
