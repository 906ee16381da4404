/** Who is at work: MongoDB's breaker, the listener, workers and their queues, periodic tasks. */

import { h } from "../vendor/preact.js";
import { Awaited, Figure, Panel, State, Table } from "../parts.js";
import { ago, clock, count, duration } from "../units.js";
import { isAbout, isUnknown, levelOf } from "../verdict.js";
import { notObserved } from "./drift.js";
import { beatText, listenerLevel, listenerText, mongodb, stoppedText } from "./now.js";

/** What is said of figures that only a server of Redis has which does not answer. */
const NOT_KNOWN = "Not known while that server of Redis does not answer.";

export function Processes({ status, failed }) {
  if (!status) return h(Awaited, { failed });
  return [
    h("h1", null, "Processes"),
    h("div", { class: "columns" }, h(Breaker, { status }), h(Listener, { status })),
    h(Exporter, { status }),
    h(Workers, { status }),
    h(Queues, { status }),
    h(Periodic, { status }),
  ];
}

function Breaker({ status }) {
  const closed = status.breaker === "closed";
  const [level, text] = mongodb(status, Date.now() / 1000);
  return h(
    Panel,
    { title: "MongoDB", tools: h(State, { level }, text) },
    h(
      "p",
      null,
      isUnknown(status, "breaker")
        ? NOT_KNOWN
        : closed
          ? "The breaker is closed: requests go through. It opens when MongoDB gives no sign of life for a second or two, or three requests fail within 20 s; one probe asks for all."
          : `Open since ${clock(status.breaker_since)}: no process asks MongoDB but for a probe. Writes wait in Redis.`,
    ),
    status.mongodb_error ? h("pre", { class: "reason" }, status.mongodb_error) : null,
  );
}

function Listener({ status }) {
  const listener = status.listener;
  return h(
    Panel,
    { title: "Listener", tools: h(State, { level: listenerLevel(status) }, listenerText(status)) },
    listener
      ? [
          h(
            "dl",
            { class: "figures small" },
            h(Figure, { name: "Changes", value: count(listener.events), note: `${count(listener.ours)} our own` }),
            h(Figure, { name: "Entries dropped", value: count(listener.invalidated) }),
            h(Figure, { name: "Conflicts", value: count(listener.conflicts) }),
            h(Figure, { name: "Heard of MongoDB", value: ago(listener.heard_seconds_ago) }),
          ),
          h("p", { class: "note" }, `Leads: ${listener.leader || "nobody"}${listener.pid ? `, process ${listener.pid}` : ""}`),
          listener.error ? h("pre", { class: "reason" }, listener.error) : null,
        ]
      : h("p", { class: "empty" }, isUnknown(status, "listener") ? NOT_KNOWN : "No listener has ever run: what others write to MongoDB is seen when entries expire."),
  );
}

/** Level and text of the exporter: whether figures of the last hour, and of what readers see, are of now. */
export function exporter(status) {
  const { exporter: told, consistency } = status;
  const recorded = told?.recorded_seconds_ago;
  if (recorded === undefined) return ["off", "not known now"];
  if (recorded === null) return ["off", "never ran"];
  const level = levelOf(status, isAbout("exporter"));
  if (told.is_stopped) return [level, stoppedText(told)];
  if (told.is_silent) return [level, `silent for ${duration(recorded)}`];
  const unobserved = notObserved(consistency);
  return unobserved ? ["warn", `records; what readers see is ${unobserved}`] : ["ok", "records"];
}

function Exporter({ status }) {
  const [level, text] = exporter(status);
  return h(Panel, { title: "Exporter", tools: h(State, { level }, text) }, h("p", { class: "note" }, "It records the last hour, and looks what readers see: while it does not, charts stand still."));
}

/** What a worker does. */
function doing({ silent, stopped, busy, awaited, ended }) {
  if (stopped) return `stopped, and did nothing for ${duration(silent)}`;
  if (awaited) return awaited;
  if (ended !== undefined) return `ended without a word ${ago(ended)}`;
  if (silent !== undefined) return `silent for ${duration(silent)}`;
  return busy === undefined ? "at work" : `busy for ${duration(busy)}`;
}

/** The level of a worker: one that has ended is no fault by itself, and one that is waited for none yet. */
function workerLevel(status, { name, awaited, ended }) {
  return levelOf(status, isAbout(`worker ${name}`), awaited || ended !== undefined ? "off" : "ok");
}

/** Workers by name, each with its queues: those at work, busy ones, and those that have fallen silent. */
function Workers({ status }) {
  const queues = new Map();
  for (const [queue, names] of Object.entries(status.consumers ?? {})) {
    for (const name of names) queues.set(name, [...(queues.get(name) ?? []), queue]);
  }
  const silent = (status.silent_workers ?? []).map((one) => ({ name: one.worker, queues: one.queues, silent: one.seconds_ago, stopped: one.is_stopped, pid: one.pid }));
  const busy = new Map((status.busy_workers ?? []).map((one) => [one.worker, one]));
  for (const { worker, queues: some } of busy.values()) queues.set(worker, queues.get(worker) ?? [...some]);
  const alive = [...queues].map(([name, some]) => ({ name, queues: some.sort(), busy: busy.get(name)?.seconds }));
  const ended = (status.ended_workers ?? []).map((one) => ({ name: one.worker, queues: one.queues, ended: one.seconds_ago }));
  const why = `waited for, as Redis ${status.heartbeats_refused ? "refuses to record heartbeats" : "was away until just now"}`;
  const awaited = (status.awaited_workers ?? []).map((one) => ({ name: one.worker, queues: one.queues, awaited: why }));
  const advice = new Map((status.to_do ?? []).map((one) => [one.about, one.advice]));
  const items = [...alive, ...silent, ...awaited, ...ended];
  items.sort((one, other) => (one.name < other.name ? -1 : 1));
  return h(
    Panel,
    { title: "Workers", note: "A worker is known by what it does: one that did nothing for 15 s, not even a message to itself, is silent; or busy, where its pool is full; or stopped, as is seen on its machine at once." },
    h(Table, {
      caption: "Workers",
      items,
      keyOf: (one) => one.name,
      detail: (one) => advice.get(`worker ${one.name}`),
      empty: isUnknown(status, "workers") ? NOT_KNOWN : "No worker is alive.",
      columns: [
        { name: "Worker", cell: (one) => h("span", { class: "id" }, one.pid ? `${one.name}, process ${one.pid}` : one.name), wide: true },
        { name: "Queues", cell: (one) => one.queues.join(", ") },
        { name: "State", cell: (one) => h(State, { level: workerLevel(status, one) }, doing(one)) },
      ],
    }),
  );
}

/** The state of a queue. What waits in vain for want of a worker is told of the backlog. */
function queueState(status, { name, workers }) {
  if (workers.length) return [{ level: "ok" }, "consumed"];
  if (!(status.unconsumed ?? []).includes(name)) return [{ level: "off" }, "its worker is waited for"];
  const names = name === "flush" ? ["queue flush", "backlog"] : [`queue ${name}`];
  return [{ level: levelOf(status, isAbout(...names)) }, "nobody consumes it"];
}

function Queues({ status }) {
  const items = Object.entries(status.consumers ?? {}).map(([name, workers]) => ({ name, workers }));
  return h(
    Panel,
    { title: "Queues" },
    h(Table, {
      caption: "Queues",
      items,
      keyOf: (one) => one.name,
      empty: "No queue is known.",
      columns: [
        { name: "Queue", cell: (one) => one.name },
        { name: "Waiting tasks", numeric: true, cell: (one) => count(status.broker?.queues?.[one.name]) },
        { name: "Workers", numeric: true, cell: (one) => count(one.workers.length) },
        { name: "State", cell: (one) => h(State, ...queueState(status, one)) },
      ],
    }),
  );
}

function Periodic({ status }) {
  const items = Object.entries(status.periodic ?? {}).map(([name, run]) => ({ name, ...run }));
  const level = levelOf(status, isAbout("beat"));
  const isAway = level !== "ok";
  const advice = new Map((status.to_do ?? []).map((one) => [one.about, one.advice]));
  return h(
    Panel,
    { title: "Periodic tasks", tools: isAway ? h(State, { level }, `beat ${beatText(status)}`) : null },
    h(Table, {
      caption: "Periodic tasks",
      items,
      keyOf: (one) => one.name,
      detail: (one) => advice.get(`task ${one.name}`),
      empty: isUnknown(status, "periodic") ? NOT_KNOWN : "None has run yet: is beat at work?",
      columns: [
        { name: "Task", cell: (one) => one.name },
        { name: "Last run", numeric: true, cell: (one) => ago(one.seconds_ago) },
        { name: "Took", numeric: true, cell: (one) => duration(one.seconds) },
        { name: "State", cell: (one) => h(State, ...(one.is_late || (isAway && one.name === "sweep") ? [{ level: levelOf(status, isAbout(`task ${one.name}`, "beat")) }, "missing"] : stateOf(one))) },
        { name: "What it did", cell: (one) => one.error ?? one.outcome?.stopped ?? outcome(one.outcome), wide: true },
      ],
    }),
  );
}

/** How a run has ended: one that found a server away has not failed, and not done its work either. */
function stateOf({ error, outcome: told }) {
  if (error) return [{ level: "warn" }, "failed"];
  return told?.stopped ? [{ level: "warn" }, "ended early"] : [{ level: "ok" }, "done"];
}

/** Names with their values, those of inner objects too; nothing of what is none. */
function flat(told) {
  return Object.entries(told).flatMap(([name, value]) => {
    if (!value) return [];
    if (typeof value === "object") return flat(value);
    return [`${name.replaceAll(/[_-]/g, " ")} ${typeof value === "number" ? count(value) : value}`];
  });
}

/** What a task says that it did, in words. */
function outcome(told) {
  const { seconds, ...rest } = told ?? {}; // which stands in a column of its own
  return flat(rest).join(", ") || "nothing to do";
}
