/** Conflicts: changes of others to documents of which a write was pending, with both sides. */

import { h } from "../vendor/preact.js";
import { Live } from "../feed.js";
import { Awaited, DocumentLink, Panel, Trouble } from "../parts.js";
import { bytes, clock } from "../units.js";

/** What a collection's `on_conflict` has decided. */
const DECIDED = { ours: "ours is written over it", theirs: "theirs stands; ours is a dead letter" };

export class Conflicts extends Live {
  constructor(props) {
    super(props);
    this.list = this.follow("admin/conflicts?limit=100", 5_000);
  }

  render() {
    const all = this.list.data?.conflicts;
    return [
      h("h1", null, "Conflicts"),
      h("p", { class: "lead" }, "Somebody else changed a document in MongoDB while a write of ours was still on its way. The last 100."),
      h(Trouble, { feed: this.list }),
      all ? null : h(Awaited, { failed: this.list.error }),
      all?.length === 0 ? h("p", { class: "empty" }, "There was none.") : all?.map((one) => h(Conflict, { key: `${one.collection}/${one.id}/${one.at}`, one })),
    ];
  }
}

function Conflict({ one }) {
  const [ours, theirs] = [fields(one.ours), fields(one.theirs)];
  const names = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])];
  return h(
    Panel,
    { title: h(DocumentLink, one), tools: h("span", { class: "note" }, `${clock(one.at)} · ${one.operation}`), note: `on_conflict is ${one.policy}: ${DECIDED[one.policy] ?? "see the settings"}.` },
    h(
      "table",
      { class: "sides" },
      h("caption", { class: "hidden" }, "Both sides, field by field"),
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Field"), h("th", { scope: "col" }, side("Ours", one.ours)), h("th", { scope: "col" }, side("Theirs", one.theirs)))),
      h(
        "tbody",
        null,
        names.length
          ? names.map((name) =>
              h(
                "tr",
                { key: name, class: ours[name] === theirs[name] ? "" : "differs" },
                h("th", { scope: "row", class: "id" }, name),
                h("td", { "data-name": "Ours" }, h("code", null, ours[name] ?? "–")),
                h("td", { "data-name": "Theirs" }, h("code", null, theirs[name] ?? "–")),
              ),
            )
          : h("tr", null, h("td", { colspan: 3 }, "Neither side can be shown here.")),
      ),
    ),
  );
}

/** The fields of one side as JSON, by name. */
function fields(entry) {
  const shown = Object.entries(entry?.document ?? {}).map(([name, value]) => [name, JSON.stringify(value)]);
  return Object.assign(Object.create(null), Object.fromEntries(shown));
}

function side(name, entry) {
  if (!entry) return `${name}: gone, or not known`;
  if (!entry.exists) return `${name}: deleted`;
  return entry.document ? name : `${name}: ${bytes(entry.bytes)}, not kept`;
}
