/** Partitions as a heat map: where documents wait, and which are read most there. */

import { Component, h } from "../vendor/preact.js";
import { Live } from "../feed.js";
import { Awaited, DocumentLink, Panel, Table, Trouble } from "../parts.js";
import { count, duration, rate, some } from "../units.js";

/** What a partition's colour may stand for. */
const MEASURES = {
  pending: { name: "Waiting", of: (one) => one.pending, show: count },
  age: { name: "Age of the oldest", of: (one) => one.oldest_pending_seconds, show: duration },
  letters: { name: "Dead letters", of: (one) => one.dead_letters, show: count },
  reads: { name: "Reads", of: (one) => one.reads, show: rate },
};

export class Partitions extends Live {
  constructor(props) {
    super(props);
    this.hot = this.follow("admin/hot-keys?limit=10", 5_000);
    this.state = { measure: "pending", chosen: null };
  }

  render({ status, failed }, { measure, chosen }) {
    if (!status) return h(Awaited, { failed });
    const hot = new Map((this.hot.data?.by_partition ?? []).map((one) => [one.partition, one.hot_keys]));
    const all = status.by_partition.map((one) => ({
      ...one,
      reads: (hot.get(one.partition) ?? []).reduce((sum, key) => sum + key.reads_per_second, 0),
    }));
    const { of, show, name } = MEASURES[measure];
    const most = Math.max(...all.map(of), 0);
    const shown = all[chosen];
    const cap = status.caps?.max_pending_per_partition ?? Infinity;
    const full = all.filter((one) => one.pending >= cap).length;
    const filled = full ? ` ${count(full)} of ${count(all.length)} are full, and take no new document: the cap is ${count(cap)}.` : "";
    return [
      h("h1", null, "Partitions"),
      h(
        Panel,
        { title: "Heat map", note: `${most ? `At most ${show(most)} in one.` : "All are empty."}${filled}`, tools: h(Choice, { measure, choose: (one) => this.setState({ measure: one }) }) },
        h(
          "ol",
          { class: `heat ${all.length > 128 ? "dense" : ""}` },
          all.map((one) =>
            h(
              "li",
              { key: one.partition },
              h(
                "button",
                {
                  type: "button",
                  class: one.pending >= cap ? "full" : "",
                  "aria-pressed": one.partition === chosen,
                  "aria-label": `Partition ${one.partition}, ${name.toLowerCase()} ${show(of(one))}${one.pending >= cap ? ", full" : ""}`,
                  style: { "--heat": most ? Math.sqrt(of(one) / most).toFixed(3) : "0" },
                  onClick: () => this.setState({ chosen: one.partition === chosen ? null : one.partition }),
                },
                h("span", { class: "place" }, one.partition),
                h("span", { class: "value" }, show(of(one))),
                one.pending >= cap ? h("span", { class: "cap", title: `Full: the cap is ${count(cap)}` }, "full") : null,
                one.dead_letters ? h("span", { class: "dead", title: some(one.dead_letters, "dead letter") }, "✕") : null,
              ),
            ),
          ),
        ),
      ),
      shown
        ? h(Shown, { one: shown, hot: hot.get(shown.partition) ?? [] })
        : h(Panel, { title: "Read most", note: "Choose a partition to see its own." }, h(HotKeys, { keys: this.hot.data?.hot_keys })),
      h(Trouble, { feed: this.hot }),
    ];
  }
}

/** One partition. */
function Shown({ one, hot }) {
  return h(
    Panel,
    { title: `Partition ${one.partition}` },
    h(
      "p",
      null,
      `${some(one.pending, "document")} ${one.pending === 1 ? "waits" : "wait"}`,
      one.pending ? `, the oldest for ${duration(one.oldest_pending_seconds)}` : "",
      `; ${some(one.dead_letters, "dead letter")}.`,
    ),
    h(HotKeys, { keys: hot }),
  );
}

/** Documents that are read most, with a bar for each. */
export class HotKeys extends Component {
  render({ keys, failed }) {
    const most = Math.max(...(keys ?? []).map((one) => one.reads_per_second), 0.001);
    return h(Table, {
      caption: "Documents that are read most",
      items: keys,
      failed,
      keyOf: (one) => `${one.collection}/${one.id}`,
      empty: "No document was read often lately.",
      columns: [
        { name: "Document", cell: (one) => h(DocumentLink, one), wide: true },
        { name: "Reads", numeric: true, cell: (one) => rate(one.reads_per_second) },
        { name: "Beside the first", cell: (one) => h("span", { class: "bar", style: { "--part": (one.reads_per_second / most).toFixed(3) } }) },
      ],
    });
  }
}

function Choice({ measure, choose }) {
  return h(
    "div",
    { class: "choice", role: "group", "aria-label": "Colour by" },
    Object.entries(MEASURES).map(([key, one]) =>
      h("button", { key, type: "button", "aria-pressed": key === measure, onClick: () => choose(key) }, one.name),
    ),
  );
}
