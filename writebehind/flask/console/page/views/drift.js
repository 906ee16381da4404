/** Drift: where Redis and MongoDB differed, pass by pass; and how often readers see the truth. */

import { h } from "../vendor/preact.js";
import { Live } from "../feed.js";
import { Awaited, DocumentLink, Figure, Panel, State, Table, Trouble } from "../parts.js";
import { UNKNOWN, clock, count, duration, nines, percent } from "../units.js";

export class Drift extends Live {
  constructor(props) {
    super(props);
    this.drift = this.follow("admin/drift?limit=50", 5_000);
  }

  render({ status }) {
    const told = this.drift.data;
    return [
      h("h1", null, "Drift"),
      h("p", { class: "lead" }, "The reconciler compares what Redis keeps with what MongoDB has, and mends what differs."),
      h(Trouble, { feed: this.drift }),
      told ? h(Equal, { told }) : h(Awaited, { failed: this.drift.error }),
      status?.consistency?.windows ? h(Seen, { consistency: status.consistency }) : null,
      told ? h(Passes, { passes: told.passes }) : null,
    ];
  }
}

/** A sampled fraction in nines: at least so many, where nothing was wrong; none are not known. */
export function inNines({ looks, wrong, ratio, nines_from: from }) {
  if (!looks || (!wrong && from <= 0)) return UNKNOWN;
  return wrong ? (nines(ratio) ?? percent(ratio)) : `≥\u00a0${from.toFixed(1)}\u00a0nines`;
}

/** For how long nobody has looked what readers see; "" where the API says that somebody does, or nobody ever has. */
export function notObserved(consistency) {
  const seconds = consistency?.observed_seconds_ago;
  return consistency?.is_observed || typeof seconds !== "number" ? "" : `not observed for ${duration(seconds)}`;
}

/** What readers see, as it was sampled: within 1, 10 and 60 s. */
function Seen({ consistency }) {
  const { windows, collections, inconsistent, span_seconds: span } = consistency;
  const unobserved = notObserved(consistency);
  const rows = [["all", windows], ...Object.entries(collections ?? {})];
  const cell = (seconds) => (row) => h("span", { title: figures(row[1][seconds]) }, inNines(row[1][seconds]));
  return h(
    Panel,
    { title: "What readers see", tools: unobserved ? h(State, { level: "warn" }, unobserved) : null, note: `Looks of the last ${duration(span)} that were right within 1, 10 and 60 s. Where none was wrong, so many nines at least, with 95 % certainty.` },
    h(Table, {
      caption: "What readers see",
      items: rows,
      keyOf: (row) => row[0],
      empty: "Nobody has looked yet.",
      columns: [
        { name: "Collection", cell: (row) => row[0] },
        { name: "Looks", numeric: true, cell: (row) => count(row[1]["1"].looks) },
        { name: "Wrong after 1 s", numeric: true, cell: (row) => count(row[1]["1"].wrong) },
        { name: "Within 1 s", numeric: true, cell: cell("1") },
        { name: "Within 10 s", numeric: true, cell: cell("10") },
        { name: "Within 60 s", numeric: true, cell: cell("60") },
      ],
    }),
    inconsistent?.length
      ? h(Table, {
          caption: "Documents that were wrong",
          items: inconsistent,
          keyOf: (one) => `${one.collection}/${one.id}/${one.since}`,
          empty: "",
          columns: [
            { name: "Document", cell: (one) => h(DocumentLink, one), wide: true },
            { name: "Readers saw", cell: (one) => one.fault ?? UNKNOWN },
            { name: "Since", numeric: true, cell: (one) => (typeof one.since === "number" ? clock(one.since) : String(one.since)) },
          ],
        })
      : null,
  );
}

function figures({ looks, wrong, ratio_from: from, ratio_to: to }) {
  return `${count(looks)} looks, ${count(wrong)} wrong; 95 %: ${percent(from)} to ${percent(to)}`;
}

function Equal({ told: { consistency, current } }) {
  const { ratio, checked } = consistency;
  const [found, repaired] = [total(current.found), total(current.repaired)];
  return h(
    Panel,
    { title: "Now" },
    h(
      "dl",
      { class: "figures small" },
      h(Figure, { name: "Equal to MongoDB", value: percent(ratio), note: ratio === null ? "not compared yet" : `${nines(ratio) ?? "no difference"} in ${count(checked)} compared` }),
      h(Figure, { name: "Pass under way", value: `${count(current.keys)}`, note: `keys looked at, since ${clock(current.started_ms / 1000)}` }),
      h(Figure, { name: "Found so far", value: count(found), note: `${count(repaired)} mended`, level: found ? "warn" : "" }),
    ),
  );
}

function Passes({ passes }) {
  return h(
    Panel,
    { title: "Passes of the last week", note: "Those that found drift, and the last ones that found none." },
    h(Table, {
      caption: "Passes",
      items: passes,
      keyOf: (one) => `${one.started_ms}-${one.ended_ms}`,
      empty: "No pass has ended yet.",
      columns: [
        { name: "Ended", cell: (one) => clock(one.ended_ms / 1000) },
        { name: "Took", numeric: true, cell: (one) => duration((one.ended_ms - one.started_ms) / 1000) },
        { name: "Keys", numeric: true, cell: (one) => count(one.keys) },
        { name: "Equal", numeric: true, cell: (one) => percent(one.consistency) },
        { name: "Found", cell: (one) => h(Found, { one }), wide: true },
      ],
    }),
  );
}

function Found({ one }) {
  const kinds = Object.entries(one.found);
  if (!kinds.length) return h(State, { level: "ok" }, "nothing");
  return [
    h(State, { level: "warn" }, `${kinds.map(([kind, number]) => `${kind.replaceAll("-", " ")}: ${count(number)}`).join(", ")}${one.dry_run ? "; only looked" : `; ${count(total(one.repaired))} mended`}`),
    h(
      "details",
      null,
      h("summary", null, "which"),
      h("ul", { class: "names" }, Object.entries(one.samples).flatMap(([kind, names]) => names.map((name) => h("li", { key: kind + name }, h("span", { class: "id" }, name))))),
    ),
  ];
}

function total(counts) {
  return Object.values(counts ?? {}).reduce((sum, one) => sum + one, 0);
}
