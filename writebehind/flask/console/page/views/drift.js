/** Drift: where Redis and MongoDB differed, pass by pass; and how often readers see the truth. */

import { h } from "../vendor/preact.js";
import { Live } from "../feed.js";
import { Figure, Panel, State, Table, Trouble } from "../parts.js";
import { clock, count, duration, nines, percent } from "../units.js";

export class Drift extends Live {
  constructor(props) {
    super(props);
    this.drift = this.follow("admin/drift?limit=50", 5_000);
  }

  render() {
    const told = this.drift.data;
    return [
      h("h1", null, "Drift"),
      h("p", { class: "lead" }, "The reconciler compares what Redis keeps with what MongoDB has, and mends what differs."),
      h(Trouble, { feed: this.drift }),
      told ? h(Equal, { told }) : h("p", { class: "empty" }, "Loading …"),
      told ? h(Passes, { passes: told.passes }) : null,
    ];
  }
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
        { name: "Ended", numeric: true, cell: (one) => clock(one.ended_ms / 1000) },
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
    h(State, { level: "warn" }, `${kinds.map(([kind, number]) => `${count(number)} ${kind.replaceAll("-", " ")}`).join(", ")}${one.dry_run ? "; only looked" : `; ${count(total(one.repaired))} mended`}`),
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
