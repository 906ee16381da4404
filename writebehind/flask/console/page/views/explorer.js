/** The explorer: one document, in Redis and in MongoDB, and how far it is on its way. */

import { Component, createRef, h } from "../vendor/preact.js";
import { path } from "../api.js";
import { Feed } from "../feed.js";
import { Figure, Json, Panel, State, Trouble, documentAddress } from "../parts.js";
import { ago, bytes, clock, count, duration, some } from "../units.js";

export class Explorer extends Component {
  constructor(props) {
    super(props);
    this.collection = createRef();
    this.id = createRef();
    this.look(props.rest);
  }

  /** Follow a document, or none. */
  look([collection, ...id]) {
    this.feed?.stop();
    this.feed = null;
    if (!collection || !id.length) return;
    const where = path("admin", "explorer", collection, id.join("/"));
    this.feed = new Feed(() => where, 1_000, () => this.setState({}));
  }

  componentDidMount() {
    this.feed?.start();
  }

  componentDidUpdate(before) {
    if (before.rest.join("/") === this.props.rest.join("/")) return;
    this.look(this.props.rest);
    this.feed?.start();
    this.setState({});
  }

  componentWillUnmount() {
    this.feed?.stop();
  }

  render({ rest: [collection = "", ...id], status }) {
    const feed = this.feed;
    const go = (event) => {
      event.preventDefault();
      location.hash = documentAddress(this.collection.current.value.trim(), this.id.current.value);
    };
    return [
      h("h1", null, "Explore a document"),
      h(
        "form",
        { class: "search", onSubmit: go },
        h("label", { class: "field" }, "Collection", h("input", { ref: this.collection, defaultValue: collection, required: true, spellcheck: false, autocapitalize: "off", list: "collections" })),
        h("label", { class: "field grow" }, "Id", h("input", { ref: this.id, defaultValue: id.join("/"), required: true, spellcheck: false, autocapitalize: "off" })),
        h("button", { type: "submit", class: "primary" }, "Look"),
        h("datalist", { id: "collections" }, Object.keys(status?.dead_letters_by_collection ?? {}).map((one) => h("option", { key: one, value: one }))),
      ),
      feed ? h(Trouble, { feed }) : h("p", { class: "empty" }, "Name a document: what Redis has of it and what MongoDB has is shown side by side, each second anew."),
      feed && !feed.data && !feed.error ? h("p", { class: "empty" }, "Loading …") : null,
      feed?.data ? h(Found, { one: feed.data }) : null,
    ];
  }
}

function Found({ one }) {
  const { entry, loading, claims } = one.redis;
  return [
    h(Way, { one }),
    h(
      "div",
      { class: "columns" },
      h(
        Panel,
        { title: "Redis", tools: h(State, { level: entry ? "ok" : "off" }, entry ? IN_REDIS[entry.state] ?? entry.state : "not cached") },
        entry
          ? h(
              "dl",
              { class: "figures small" },
              h(Figure, { name: "Version", value: version(entry.version), note: entry.acknowledged ?? "" }),
              h(Figure, { name: "Expires in", value: entry.ttl_seconds === null ? "never" : duration(entry.ttl_seconds), note: entry.ttl_seconds === null ? (one.pending ? "while it is pending" : "MongoDB does not have it") : "" }),
              h(Figure, { name: "Size", value: bytes(entry.bytes) }),
            )
          : h("p", { class: "empty" }, "The next reader loads it from MongoDB."),
        loading ? h("p", { class: "note" }, `${loading.is_refresh ? "Being refreshed" : "Being loaded"} by ${loading.token}${loading.seconds_left === null ? "" : `, for ${duration(loading.seconds_left)} more at most`}.`) : null,
        claims?.length ? h("p", { class: "note" }, `Claims ${claims.map((claim) => `${claim.field} = ${claim.value}`).join(", ")}.`) : null,
        entry ? h(Body, { one: entry, other: one.mongodb, label: "The document in Redis" }) : null,
      ),
      h(
        Panel,
        { title: "MongoDB", tools: h(State, { level: { found: "ok", absent: "off" }[one.mongodb.state] ?? "bad" }, IN_MONGODB[one.mongodb.state] ?? one.mongodb.state) },
        one.mongodb.error ? h("pre", { class: "reason" }, one.mongodb.error) : null,
        one.mongodb.state === "found"
          ? h("dl", { class: "figures small" }, h(Figure, { name: "Version", value: version(one.mongodb.version), note: one.mongodb.version ? "" : "written by somebody else" }), h(Figure, { name: "Size", value: bytes(one.mongodb.document_bytes) }))
          : null,
        h(Body, { one: one.mongodb, other: entry, label: "The document in MongoDB" }),
      ),
    ),
  ];
}

const IN_REDIS = { document: "has it", deleted: "has its deletion", absent: "knows that there is none", unreadable: "is unreadable" };
const IN_MONGODB = { found: "has it", absent: "does not have it", unknown: "does not answer" };

/** Where it is on its way: the answer to "is my write safe?". */
function Way({ one }) {
  const { pending, mongodb, redis } = one;
  const letters = one.dead_letters ?? [];
  let [level, title] = ["ok", "Nothing of it waits"];
  if (letters.length) [level, title] = ["bad", `MongoDB refuses it: ${some(letters.length, "dead letter")}`];
  else if (pending) [level, title] = ["busy", `It has waited for MongoDB for ${duration(pending.seconds)}`];
  else if (redis.entry && mongodb.state === "found" && redis.entry.version === mongodb.version) title = "MongoDB has the version that readers see";
  else if (mongodb.state === "unknown") [level, title] = ["warn", "Nothing of it waits; MongoDB does not answer"];
  return h(
    "section",
    { class: `verdict small ${level}`, "aria-labelledby": "way" },
    h("h2", { id: "way" }, title),
    h("p", null, h("span", { class: "id" }, one.member), ` · partition ${one.partition} of ${one.partitions}`, one.takes_writes ? null : " · takes no writes: too much is kept of it"),
    pending
      ? h(
          "dl",
          { class: "figures small" },
          h(Figure, { name: "Due", value: pending.due_in_seconds > 0 ? `in ${duration(pending.due_in_seconds)}` : "now" }),
          h(Figure, { name: "Place", value: count(pending.place), note: `of ${count(pending.of)} in its partition` }),
          h(Figure, { name: "Sent to MongoDB", value: pending.sent ? ago(pending.sent.seconds_ago) : "not yet", note: pending.attempts ? some(pending.attempts, "attempt") : "" }),
          h(Figure, { name: "Flusher", value: pending.flusher ? "at work" : "none", note: pending.flusher?.token ?? (pending.flush_task ? "a task is on its way" : "") }),
        )
      : null,
    letters.map((letter) => h("p", { key: letter.version }, h("a", { href: `#dead-letters/${encodeURIComponent(letter.collection)}/${encodeURIComponent(letter.id)}` }, `${letter.reason}, version ${letter.version}, failed ${clock(letter.failed_at)}`), `: ${letter.message}`)),
  );
}

function version(number) {
  return number ? h("span", { class: "id" }, number) : number === 0 ? "none" : "–";
}

function Body({ one, other, label }) {
  if (one.is_too_large) return h("p", { class: "empty" }, `Too large for a page${one.document_bytes ? `: ${bytes(one.document_bytes)}` : ""}.`);
  if (one.document === null || one.document === undefined) return one.document_bytes ? h("p", { class: "empty" }, "It cannot be shown as JSON.") : null;
  return h(Json, { value: one.document, other: other?.document, label });
}
