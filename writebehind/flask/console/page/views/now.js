/** The first view: how much would be lost now, when is it safe, and how it has been in the last hour. */

import { h } from "../vendor/preact.js";
import { Chart } from "../chart.js";
import { Figure, State } from "../parts.js";
import { charts } from "../series.js";
import { ago, bytes, count, duration, nines, percent, some } from "../units.js";
import { broken, trouble, verdict } from "../verdict.js";

export function Now({ status, history }) {
  const now = Date.now() / 1000;
  const { level, title, text } = verdict(status, now);
  return [
    h(
      "section",
      { class: `verdict ${level}`, "aria-labelledby": "verdict" },
      h("h1", { id: "verdict" }, title),
      h("p", null, text),
      h(
        "dl",
        { class: "figures" },
        h(Figure, { name: "Only in Redis now", value: count(status.pending), note: pendingNote(status) }),
        h(Figure, { name: "The oldest waits", value: status.pending ? duration(status.oldest_pending_seconds) : "–" }),
        h(Figure, { name: "Safe in", value: safe(status), note: safeNote(status) }),
        h(Figure, { name: "Writes refused in", value: cap(status), note: capNote(status) }),
      ),
    ),
    h(Lamps, { status, now, told: history.data }),
    h("h2", { class: "hidden" }, "The last hour"),
    h("div", { class: "charts" }, charts(history.data, status).map((one) => h(Chart, { key: one.title, ...one }))),
    history.error && !history.data ? h("p", { class: "empty" }, "The last hour is not known.") : null,
  ];
}

function pendingNote(status) {
  return typeof status.pending_bytes === "number" && status.pending ? bytes(status.pending_bytes) : status.pending === 1 ? "document" : "documents";
}

function safe(status) {
  if (!status.pending) return "safe";
  const seconds = status.seconds_until_safe;
  return typeof seconds === "number" ? duration(seconds) : "unknown";
}

function safeNote(status) {
  if (!status.pending) return "nothing waits";
  return typeof status.seconds_until_safe === "number" ? "what is acknowledged by now" : (status.not_safe_because ?? "");
}

function cap(status) {
  return typeof status.seconds_until_cap === "number" ? duration(status.seconds_until_cap) : "never";
}

function capNote(status) {
  if (typeof status.seconds_until_cap !== "number") return "as much goes as comes";
  return status.cap === "memory" ? "at this rate, for Redis's memory" : "at this rate";
}

/** One line of states: what has to work, and whether it does. */
function Lamps({ status, now, told }) {
  const unconsumed = status.unconsumed ?? [];
  const listener = status.listener;
  const letters = status.dead_letters;
  return h(
    "ul",
    { class: "lamps" },
    lamp("MongoDB", ...mongodb(status, now), "#processes"),
    lamp("Redis", ...memory(told), "#now"),
    lamp(
      "Workers",
      unconsumed.length ? "bad" : "ok",
      unconsumed.length ? `nobody consumes ${unconsumed.join(", ")}` : some(status.workers, "worker"),
      "#processes",
    ),
    lamp("Listener", listenerLevel(listener), listenerText(listener), "#processes"),
    lamp("Dead letters", letters ? "warn" : "ok", count(letters), "#dead-letters"),
    lamp("Equal to MongoDB", equality(status.consistency), equal(status.consistency), "#drift"),
  );
}

function lamp(name, level, text, href) {
  return h("li", { key: name }, h("a", { href }, h("span", { class: "name" }, name), h(State, { level }, text)));
}

/** Level and text of MongoDB. */
export function mongodb(status, now) {
  if (!trouble(status)) return ["ok", "answers"];
  return ["bad", status.breaker === "closed" ? "does not answer" : `breaker ${broken(status, now)}`];
}

/** Level and text of Redis's memory. */
function memory(told) {
  const used = told?.used_memory?.findLast((value) => value !== null);
  const most = told?.max_memory?.findLast((value) => value !== null);
  if (used === undefined) return ["ok", "answers"];
  return most ? [used > 0.9 * most ? "warn" : "ok", `${bytes(used)} of ${bytes(most)}`] : ["ok", bytes(used)];
}

export function listenerLevel(listener) {
  if (!listener) return "off";
  return listener.error || listener.alive_seconds_ago > 30 ? "bad" : "ok";
}

export function listenerText(listener) {
  if (!listener) return "never ran";
  if (listener.error) return "in trouble";
  if (listener.alive_seconds_ago > 30) return `last seen ${ago(listener.alive_seconds_ago)}`;
  return `${duration(listener.lag_s)} behind`;
}

function equality(consistency) {
  if (!consistency?.checked) return "off";
  return consistency.ratio >= 0.999 ? "ok" : "warn";
}

function equal(consistency) {
  if (!consistency?.checked) return "not compared yet";
  return nines(consistency.ratio) ?? `${percent(consistency.ratio)} of ${count(consistency.checked)}`;
}
