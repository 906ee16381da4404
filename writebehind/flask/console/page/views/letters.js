/** Dead letters: what MongoDB refuses, and the two things that can be done about it. */

import { createElement, h } from "../vendor/preact.js";
import { ask, path } from "../api.js";
import { Live } from "../feed.js";
import { Button, DocumentLink, Json, Panel, Table, Trouble, said } from "../parts.js";
import { clock, count, some } from "../units.js";

const PAGE = 100;
/** So often the list is asked for, and so often while workers try what was replayed, for so long, ms. */
const OFTEN_MS = 3_000;
const SOON_MS = 1_000;
const TRYING_MS = 15_000;
const REASONS = { refused: "refused", conflict: "conflict", damaged: "damaged", lost: "lost" };
/** Why letters are left, as the API names it. */
const LEFT = { conflict: "a conflict", newer: "MongoDB has a newer one", lost: "the document is lost", damaged: "the document was changed in Redis", changed: "changed meanwhile" };

export class Letters extends Live {
  constructor(props) {
    super(props);
    const [collection, id] = props.rest;
    this.state = { collection: collection ?? "", reason: "", search: id ?? "", limit: PAGE, open: null, body: null, bodyError: null, tried: null };
    this.list = this.follow(() => `admin/dead-letters?${this.filter({ limit: this.state.limit })}`, OFTEN_MS);
  }

  /** Say it once when MongoDB has refused again what was replayed: the answer to the click came before that. */
  componentDidUpdate() {
    const again = new Set(this.list.data?.dead_letters.filter((one) => this.refusedAgain(one)).map(documentOf));
    const more = again.size > (this.state.tried?.told ?? 0);
    if (!more) return;
    this.state.tried.told = again.size;
    this.props.tell("bad", `MongoDB has refused ${some(again.size, "document")} again.`);
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    clearTimeout(this.calms);
  }

  /** Whether a letter has come after its document was replayed here: none was as late by then. */
  refusedAgain(letter) {
    const before = this.state.tried?.before.get(documentOf(letter));
    return before !== undefined && letter.failed_at > before;
  }

  /** The filter as the API takes it. */
  filter(more = {}) {
    const { collection, reason } = this.state;
    const wanted = { ...(collection && { collection }), ...(reason && { reason }), ...more };
    return new URLSearchParams(wanted).toString();
  }

  choose(change) {
    this.setState({ ...change, limit: PAGE, open: null }, () => this.list.restart());
  }

  /** Show a letter with its document, or no longer. */
  async show(letter) {
    const name = nameOf(letter);
    if (this.state.open === name) {
      this.setState({ open: null });
      return;
    }
    this.setState({ open: name, body: null, bodyError: null });
    try {
      const body = await ask(address(letter));
      if (this.state.open === name) this.setState({ body });
    } catch (error) {
      if (this.state.open === name) this.setState({ bodyError: error });
    }
  }

  replay(letter) {
    this.props.act(
      {
        title: `Replay ${letter.collection}/${letter.id}?`,
        text:
          letter.reason === "conflict"
            ? "Its document becomes the newest version, over what MongoDB has by now."
            : "The write is tried once more as it is. If MongoDB refuses it again, it is a dead letter again.",
        action: "Replay",
      },
      async () => this.replayed([letter], replayed(await ask(address(letter, ":replay"), "POST"))),
    );
  }

  discard(letter) {
    this.props.act(
      {
        title: `Discard ${letter.collection}/${letter.id}?`,
        text: "The acknowledged change is gone for good: readers see what MongoDB has, or that there is nothing.",
        action: "Discard",
        danger: true,
      },
      async () => this.done(discarded(await ask(address(letter), "DELETE"))),
    );
  }

  replayAll() {
    const all = this.filter() || "all=true";
    this.props.act(
      { title: `Replay ${this.wanted()}?`, text: "Each is tried once more. Conflicts are left out unless you filter by that reason.", action: "Replay all" },
      async () => this.replayed(this.list.data?.dead_letters ?? [], replayed(await ask(`admin/dead-letters:replay?${all}`, "POST"))),
    );
  }

  discardAll() {
    const all = this.filter() || "all=true";
    this.props.act(
      { title: `Discard ${this.wanted()}?`, text: "The acknowledged changes of all of them are gone for good. Export them first if in doubt.", action: "Discard all", danger: true },
      async () => this.done(discarded(await ask(`admin/dead-letters?${all}`, "DELETE"))),
    );
  }

  /** The letters that the filter means, in words. */
  wanted() {
    const { collection, reason } = this.state;
    return ["all dead letters", reason && `with reason ${reason}`, collection && `of ${collection}`].filter(Boolean).join(" ");
  }

  /** Look more often for what becomes of these letters, and note how late each of them was. */
  replayed(letters, text) {
    const before = new Map();
    for (const one of letters) before.set(documentOf(one), Math.max(one.failed_at, before.get(documentOf(one)) ?? 0));
    clearTimeout(this.calms);
    this.list.every = SOON_MS;
    this.calms = setTimeout(() => (this.list.every = OFTEN_MS), TRYING_MS);
    this.setState({ tried: { before, told: 0 } });
    return this.done(text);
  }

  /** What stands where no letter does. */
  empty(status) {
    const { search, collection, reason, tried } = this.state;
    if (search.trim() || collection || reason) return "None fits.";
    if (status?.dead_letters || (tried && status?.pending)) return "None now: workers try what was replayed.";
    return status?.pending ? "MongoDB refuses nothing." : "None: nothing waits for MongoDB, and it refuses nothing.";
  }

  done(text) {
    this.list.refresh();
    this.setState({ open: null });
    return text;
  }

  render({ status }, { collection, reason, search, limit, open, body, bodyError }) {
    const told = this.list.data;
    const words = search.trim().toLowerCase();
    const all = told?.dead_letters;
    const fits = all?.filter((one) => !words || `${one.collection}/${one.id} ${one.message} ${one.code_name ?? ""}`.toLowerCase().includes(words));
    const collections = new Set([...Object.keys(status?.dead_letters_by_collection ?? {}), ...(collection ? [collection] : [])]);
    return [
      h("h1", null, "Dead letters"),
      h("p", { class: "lead" }, "Writes that MongoDB does not take. Mend the cause, then replay them; readers see them meanwhile."),
      h(
        "form",
        { class: "search", onSubmit: (event) => event.preventDefault() },
        h("label", { class: "field grow" }, "Search", h("input", { type: "search", value: search, placeholder: "id or message", spellcheck: false, onInput: (event) => this.setState({ search: event.currentTarget.value }) })),
        h(Choice, { label: "Collection", value: collection, values: [...collections].sort(), onChoice: (one) => this.choose({ collection: one }) }),
        h(Choice, { label: "Reason", value: reason, values: Object.keys(REASONS), onChoice: (one) => this.choose({ reason: one }) }),
      ),
      h(Trouble, { feed: this.list }),
      h(
        Panel,
        {
          title: fits ? some(fits.length, "letter") : "Letters",
          note: told && told.total > all.length ? `Of ${count(told.total)} in all.` : null,
          tools:
            fits?.length && !words
              ? h("div", { class: "answers" }, h(Button, { onClick: () => this.replayAll() }, "Replay all"), h(Button, { kind: "danger", onClick: () => this.discardAll() }, "Discard all"))
              : null,
        },
        h(Table, {
          caption: "Dead letters",
          items: fits,
          keyOf: nameOf,
          detail: (one) => (open === nameOf(one) ? h(Opened, { letter: one, body, error: bodyError }) : null),
          empty: this.empty(status),
          failed: Boolean(this.list.error),
          columns: [
            { name: "Document", cell: (one) => [h(DocumentLink, one), h("p", { class: "note" }, one.message), this.refusedAgain(one) ? h("p", { class: "trouble" }, "Refused again") : null], wide: true },
            { name: "Reason", cell: (one) => (one.code_name ? `${one.reason}: ${one.code_name}` : one.reason) },
            { name: "Write", cell: (one) => one.operation ?? "–" },
            { name: "Acknowledged", numeric: true, cell: (one) => clock(one.acknowledged_at) },
            { name: "Failed", numeric: true, cell: (one) => clock(one.failed_at) },
            {
              name: "Actions",
              hidden: true,
              cell: (one) =>
                h(
                  "div",
                  { class: "answers" },
                  h(Button, { "aria-expanded": open === nameOf(one), "aria-label": `Show ${one.collection}/${one.id}`, onClick: () => this.show(one) }, open === nameOf(one) ? "Hide" : "Show"),
                  one.reason === "lost" || one.reason === "damaged" ? null : h(Button, { "aria-label": `Replay ${one.collection}/${one.id}`, onClick: () => this.replay(one) }, "Replay"),
                  h(Button, { kind: "danger", "aria-label": `Discard ${one.collection}/${one.id}`, onClick: () => this.discard(one) }, "Discard"),
                ),
            },
          ],
        }),
        told?.cursor && limit < 1000 ? h(Button, { onClick: () => this.setState({ limit: Math.min(1000, limit * 3) }, () => this.list.refresh()) }, "Show more") : null,
      ),
    ];
  }
}

/** A letter with its document. */
function Opened({ letter, body, error }) {
  return h(
    "div",
    { class: "opened" },
    h("p", { class: "note" }, `Version ${letter.version}, ${some(letter.attempts, "attempt")} since it was written or replayed${letter.code ? `, code ${letter.code}` : ""}${letter.trace_id ? `, written in trace ${letter.trace_id}` : ""}`),
    error ? h("p", { class: "trouble" }, said(error)) : null,
    body ? (body.document ? h(Json, { value: body.document, label: `The document ${letter.collection}/${letter.id}` }) : h("p", { class: "empty" }, body.bson ? "It cannot be shown as JSON; the export has it." : "There is no document: a deletion, or it is lost.")) : null,
    !body && !error ? h("p", { class: "empty" }, "Loading …") : null,
    body?.other_versions?.length ? h("p", { class: "note" }, `Other versions: ${body.other_versions.join(", ")}`) : null,
  );
}

function Choice({ label, value, values, onChoice }) {
  return h(
    "label",
    { class: "field" },
    label,
    createElement(
      "select",
      { value, onChange: (event) => onChoice(event.currentTarget.value) },
      h("option", { value: "" }, "any"),
      values.map((one) => h("option", { key: one, value: one }, one)),
    ),
  );
}

function nameOf(letter) {
  return `${letter.collection}/${letter.id}/${letter.version}`;
}

function documentOf(letter) {
  return `${letter.collection}/${letter.id}`;
}

function address(letter, action = "") {
  return `${path("admin", "dead-letters", letter.collection, letter.id)}${action}?version=${letter.version}`;
}

function replayed({ replayed: number, left, because }) {
  const why = Object.entries(because ?? {}).map(([name, times]) => `${count(times)} ${LEFT[name] ?? name}`);
  return `${some(number, "dead letter")} tried again${left ? `; ${count(left)} left: ${why.join(", ")}` : ""}.`;
}

function discarded({ discarded: number }) {
  return `${some(number, "dead letter")} discarded.`;
}
