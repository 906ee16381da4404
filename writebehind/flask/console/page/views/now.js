/** The first view: how much would be lost now, when is it safe, and how it has been in the last hour. */

import { Component, h } from "../vendor/preact.js";
import { ask } from "../api.js";
import { Chart } from "../chart.js";
import { Button, Figure, State, ToDo } from "../parts.js";
import { charts, goneOn } from "../series.js";
import { ago, bytes, count, duration, nines, percent, some } from "../units.js";
import { isAbout, isUnknown, levelOf, pausedOf, serversOf, trouble, unserved, verdict } from "../verdict.js";
import { inNines, notObserved } from "./drift.js";

/** After so long without a point nobody records the history, seconds. */
const SILENT_S = 45;
/** A time until refusals that nobody has to think of, seconds. */
const FAR_S = 86_400;

/** What is said of a status while Redis is away. */
const BEFORE = { level: "off", title: "Before Redis stopped answering", text: "These figures are old." };
/** How much of the last hour charts show, seconds; `null` for what is known of it. */
const SPANS = [["5 min", 300], ["15 min", 900], ["1 h", null]];

export class Now extends Component {
  constructor(props) {
    super(props);
    this.state = { span: null };
  }

  render({ status, isLost, history, act }, { span }) {
    return view(status, isLost, history, act, span, (one) => this.setState({ span: one }));
  }
}

function view(status, isLost, history, act, span, choose) {
  const now = Date.now() / 1000;
  const told = goneOn(history, isLost);
  const { level, title, text, reason } = isLost ? BEFORE : verdict(status, now);
  return [
    h(
      "section",
      { class: `verdict ${level}`, "aria-labelledby": "verdict" },
      h("h1", { id: "verdict" }, title),
      h("p", null, text),
      reason ? h("p", { class: "id" }, reason) : null,
      isLost ? null : h(ToDo, { remedies: status.to_do }),
      isLost || !status.paused ? null : h("p", null, h(Flushing, { paused: status.paused, act })),
      h(
        "dl",
        { class: "figures" },
        h(Figure, { name: "Only in Redis now", value: count(status.pending + status.dead_letters), note: pendingNote(status) }),
        h(Figure, { name: "The oldest waits", value: status.pending ? duration(status.oldest_pending_seconds) : "–" }),
        h(Figure, { name: "Safe in", value: safe(status), note: safeNote(status) }),
        h(Figure, { name: status.seconds_until_cap === 0 ? "Writes are refused" : "Writes refused in", value: cap(status, history.data), note: capNote(status, history.data) }),
      ),
    ),
    h(Lamps, { status, isLost, now, told }),
    h("div", { class: "between" }, h("h2", null, "The last hour"), h(Spans, { span, choose })),
    recorded(history.data) ? null : h("p", { class: "note" }, unrecorded(history)),
    h("div", { class: "charts" }, charts(told, status).map((one) => h(Chart, { key: one.title, span, ...one }))),
  ];
}

/** The action that pauses flushing of all collections, or ends all pauses. */
function Flushing({ paused, act }) {
  if (paused.length) {
    const question = { title: "Resume flushing?", text: `What waits of ${pausedOf(paused)} goes to MongoDB at once, the oldest first.`, action: "Resume" };
    return h(Button, { onClick: () => act(question, async () => resumed(await ask("admin/resume", "POST"))) }, "Resume flushing");
  }
  const question = {
    title: "Pause flushing?",
    text: "Nothing goes to MongoDB until somebody resumes it, as for an upgrade of MongoDB. Writes are acknowledged until a cap is met, and are in Redis alone.",
    action: "Pause",
    danger: true,
  };
  return h(Button, { onClick: () => act(question, async () => `Flushing of ${pausedOf((await ask("admin/pause", "POST")).paused)} is paused.`) }, "Pause flushing");
}

function resumed(answer) {
  return answer.resumed.length ? `Flushing of ${pausedOf(answer.resumed)} goes on.` : "Nothing was paused.";
}

function Spans({ span, choose }) {
  return h(
    "div",
    { class: "choice", role: "group", "aria-label": "Time that charts show" },
    SPANS.map(([name, seconds]) => h("button", { key: name, type: "button", "aria-pressed": seconds === span, onClick: () => choose(seconds) }, name)),
  );
}

/** Why charts have nothing new. */
function unrecorded(history) {
  if (!history.data) return history.error ? "The last hour cannot be read." : "Loading the last hour …";
  return "Nobody records the last hour: charts need the exporter (writebehind run exporter).";
}

function pendingNote(status) {
  const letters = status.dead_letters;
  if (letters) return `${count(status.pending)} pending, ${some(letters, "dead letter")}`;
  return typeof status.pending_bytes === "number" && status.pending ? bytes(status.pending_bytes) : status.pending === 1 ? "document" : "documents";
}

function safe(status) {
  if (status.safe) return "safe";
  if (status.lost_data?.length) return "not all";
  if (status.dead_letters) return "not by itself";
  return typeof status.seconds_until_safe === "number" && !trouble(status) ? duration(status.seconds_until_safe) : "unknown";
}

function safeNote(status) {
  if (status.safe) return "nothing waits";
  if (trouble(status)) return unserved(status);
  if (status.dead_letters && status.seconds_until_drained) return `dead letters wait for you; the rest goes in ${duration(status.seconds_until_drained)}`;
  if (status.dead_letters && !status.pending) return "dead letters wait for you";
  return typeof status.seconds_until_safe === "number" ? "what is acknowledged by now" : (status.not_safe_because ?? "");
}

export function cap(status, told) {
  if (status.seconds_until_cap === 0) return "now";
  if (status.seconds_until_cap > FAR_S) return "not soon";
  if (typeof status.seconds_until_cap === "number") return duration(status.seconds_until_cap);
  return recorded(told) ? "not soon" : "unknown";
}

/** Whether anybody records how figures change. */
function recorded(told) {
  return Boolean(told?.time.length && told.now - told.time.at(-1) < SILENT_S);
}

export function capNote(status, told) {
  const note = capReason(status, told);
  return status.caps?.differ ? `${note}; processes differ in their caps: by the lowest` : note;
}

function capReason(status, told) {
  if (status.seconds_until_cap === 0) return status.cap === "memory" ? "Redis is short of memory" : "too much is pending";
  if (typeof status.seconds_until_cap !== "number") return recorded(told) ? "nothing within an hour" : "nobody records the history";
  const rate = status.seconds_until_cap > FAR_S ? `in ${duration(status.seconds_until_cap)} at this rate` : "at this rate";
  return status.cap === "memory" ? `${rate}, for Redis's memory` : rate;
}

/** One line of states: what has to work, and whether it does. */
export function Lamps({ status, isLost, now, told }) {
  const letters = status.dead_letters;
  return h(
    "ul",
    { class: "lamps" },
    lamp("MongoDB", ...mongodb(status, now), "#processes"),
    lamp("Redis", ...(isLost ? ["bad", "does not answer"] : redis(status, told)), "#now"),
    lamp("Workers", ...workers(status), "#processes"),
    ...beat(status),
    lamp("Listener", listenerLevel(status), listenerText(status), "#processes"),
    lamp("Dead letters", levelOf(status, isAbout("dead letters")), count(letters), "#dead-letters"),
    lamp("Readers see the truth", ...truth(status.consistency), "#drift"),
  );
}

function lamp(name, level, text, href) {
  return h("li", { key: name }, h("a", { href }, h("span", { class: "name" }, name), h(State, { level }, text)));
}

/** Level and text of MongoDB. */
export function mongodb(status, now) {
  return [levelOf(status, isAbout("mongodb")), mongodbText(status, now)];
}

function mongodbText(status, now) {
  if (!trouble(status)) return status.mongodb_refuses ? "takes no writes" : "answers";
  if (status.breaker !== "open") return (status.breaker ?? "closed") === "closed" ? "does not answer" : `breaker ${status.breaker}`;
  return `breaker open${status.breaker_since ? `, ${duration(Math.max(0, now - status.breaker_since))}` : ""}`;
}

/** Level and text of workers, which are known by what they do. */
function workers(status) {
  if (isUnknown(status, "workers")) return ["off", "not known now"];
  const isOf = ({ about, condition }) => about.startsWith("worker ") || about.startsWith("queue ") || condition === "no-worker";
  return [levelOf(status, isOf), workersText(status)];
}

function workersText({ workers: alive, unconsumed = [], silent_workers: silent = [] }) {
  if (unconsumed.length) return `nobody consumes ${unconsumed.join(", ")}`;
  const stopped = silent.filter((one) => one.is_stopped).length;
  if (stopped) return `${count(stopped)} stopped, ${count(alive)} at work`;
  return silent.length ? `${count(silent.length)} silent, ${count(alive)} at work` : `${count(alive)} at work`;
}

/** The state of beat where sweeps are missing, which it asks for; nothing is said of it as long as they come. */
function beat(status) {
  const level = levelOf(status, isAbout("beat"));
  return level === "ok" ? [] : [lamp("Beat", level, beatText(status), "#processes")];
}

/** That a process is stopped, and what lets it go on, where. */
export function stoppedText({ pid, host }) {
  return `stopped: kill -CONT ${pid}${host ? ` on ${host}` : ""}`;
}

/** Why sweeps are missing, in short. */
export function beatText({ beat: told }) {
  return told.is_stopped ? stoppedText(told) : `no sweep for ${duration(told.swept_seconds_ago)}`;
}

/** Level and text of a Redis that answers, be it in part. */
function redis(status, told) {
  const isOf = ({ about, condition }) => about === "redis" || about.startsWith("redis ") || condition === "memory";
  return [levelOf(status, isOf), status.away?.length ? `${serversOf(status.away)} does not answer` : memory(status, told)];
}

/** The memory of Redis, or that it cannot write. */
function memory(status, told) {
  if (status.to_do?.some((one) => one.condition === "redis-file")) return "takes no writes";
  const used = told?.used_memory?.findLast((value) => value !== null);
  const most = told?.max_memory?.findLast((value) => value !== null);
  if (used === undefined) return "answers";
  return most ? `${bytes(used)} of ${bytes(most)}` : bytes(used);
}

/** The level of the listener: one that does not hear of MongoDB, as that answers nobody, is no fault by itself. */
export function listenerLevel(status) {
  const listener = status.listener;
  if (!listener) return "off";
  return levelOf(status, isAbout("listener"), listener.error || listener.away_seconds !== null ? "off" : "ok");
}

export function listenerText(status) {
  const listener = status.listener;
  if (isUnknown(status, "listener")) return "not known now";
  if (!listener) return "never ran";
  if (listener.is_stopped) return stoppedText(listener);
  if (listener.is_silent) return `silent for ${duration(listener.alive_seconds_ago)}`;
  if (listener.away_seconds !== null) return `away for ${duration(listener.away_seconds)}`;
  if (listener.error) return "in trouble";
  return `${duration(listener.lag_s)} behind`;
}

/** Level and text of what readers see: as it was sampled, else as the reconciler has compared it. */
export function truth(consistency) {
  const unobserved = notObserved(consistency);
  if (unobserved) return ["warn", unobserved];
  const sampled = consistency?.windows?.["10"];
  if (sampled?.looks) return [sampled.wrong ? "warn" : "ok", `${inNines(sampled)} in 10 s`];
  if (!consistency?.checked) return ["off", "not compared yet"];
  return [consistency.ratio >= 0.999 ? "ok" : "warn", nines(consistency.ratio) ?? `${percent(consistency.ratio)} of ${count(consistency.checked)}`];
}
