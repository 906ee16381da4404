/** Reads: from where they are answered and how fast, and which documents are read most. */

import { h } from "../vendor/preact.js";
import { Chart } from "../chart.js";
import { Live } from "../feed.js";
import { Panel, Table, Trouble } from "../parts.js";
import { goneOn, readCharts, sources } from "../series.js";
import { duration } from "../units.js";
import { HotKeys } from "./partitions.js";

export class Reads extends Live {
  constructor(props) {
    super(props);
    this.hot = this.follow("admin/hot-keys?limit=20", 3_000);
  }

  render({ history, isLost }) {
    return [
      h("h1", null, "Reads"),
      h("h2", { class: "hidden" }, "The last hour"),
      h("div", { class: "charts" }, readCharts(goneOn(history, isLost)).map((one) => h(Chart, { key: one.title, ...one }))),
      h(
        Panel,
        { title: "By source", note: "As it was last in the last five minutes. A hit never asks MongoDB; a miss does, for all who wait for the same document." },
        h(Table, {
          caption: "Reads by source",
          items: sources(history.data),
          keyOf: (one) => one.name,
          empty: "No reads in the last five minutes.",
          columns: [
            { name: "Source", cell: (one) => one.name },
            { name: "That is from", cell: (one) => one.what, wide: true },
            { name: "Half within", numeric: true, cell: (one) => duration(one.p50) },
            { name: "99 % within", numeric: true, cell: (one) => duration(one.p99) },
          ],
        }),
      ),
      h(Panel, { title: "Read most", note: "A decaying average over the last minutes." }, h(HotKeys, { keys: this.hot.data?.hot_keys, failed: Boolean(this.hot.error) }), h(Trouble, { feed: this.hot })),
    ];
  }
}
