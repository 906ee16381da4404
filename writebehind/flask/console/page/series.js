/** The last hour: kept by Redis, gone on with each second, and made into charts. */

import { Feed } from "./feed.js";
import { bytes, count, duration, percent, rate, share } from "./units.js";

const HOUR_S = 3600;
/** Steps of a scale of bytes. */
const BINARY = Array.from({ length: 40 }, (_, power) => 2 ** (power + 10));
/** Steps of a scale of things that are not divided. */
const WHOLE = Array.from({ length: 36 }, (_, place) => [1, 2, 5][place % 3] * 10 ** Math.floor(place / 3));
/** A source of which nothing was read for so long has no latency now, seconds. */
const LATELY_S = 300;
/** The hit ratio is shown of so long, seconds: that of one second is of a few reads. */
const RATIO_S = 60;
/** Where a read may come from, as `Source` of the package has it, and what that means. */
const SOURCES = {
  hit: "Redis",
  stale: "Redis, refreshed behind",
  revalidated: "MongoDB, as Redis had it stale",
  miss: "MongoDB",
  collapsed: "somebody else's load",
  bypass: "MongoDB, past Redis",
};

/** The history of `/admin/history`: the first answer is the last hour, each further one what has come since. */
export class HistoryFeed extends Feed {
  constructor(every, changed) {
    super(() => `admin/history?since=${this.last}`, every, changed);
    /** The time of the last point, seconds since the epoch. */
    this.last = 0;
  }

  take(answer) {
    if (answer.now < this.last) this.data = null; // the clock of Redis was set back: begin anew
    if (this.data && answer.time[0] <= this.last) return; // told twice
    this.data = this.data ? { ...joined(this.data, answer, answer.now - HOUR_S), now: answer.now } : answer;
    this.last = this.data.time.at(-1) ?? 0;
  }
}

/**
 * A history as it is by now: while the API has none time goes on, and figures get old.
 *
 * @param {HistoryFeed} history
 * @param {boolean} isLost whether that is as Redis does not answer
 */
export function goneOn(history, isLost) {
  const told = history.data;
  return told && (isLost || history.error) ? { ...told, now: told.now + history.age, isLost } : told;
}

/** One history after the other, from a time on: lists are joined, at whatever depth they stand. */
function joined(before, after, from) {
  const first = before.time.findIndex((at) => at > from);
  const join = (one, other) => {
    if (Array.isArray(one)) return first < 0 ? other : one.slice(first).concat(other);
    if (typeof one !== "object" || one === null) return other;
    return Object.fromEntries(Object.keys(other).map((name) => [name, name in one ? join(one[name], other[name]) : other[name]]));
  };
  return join(before, after);
}

/** The charts of the first view. `told` is a history, or `null`. */
export function charts(told, status) {
  const of = columns(told);
  const latency = (source, part) => of("latency", source, part);
  const now = (value) => (told?.isLost ? undefined : [value]);
  return [
    chart(told, "Writes", rate, [line("acknowledged", "a", of("acknowledged_per_second")), line("persisted", "b", of("persisted_per_second"))]),
    chart(told, "Only in Redis", count, [line("documents", "a", sums(of("pending"), of("dead_letters")), true)], { now: now(status.pending + status.dead_letters), steps: WHOLE }),
    chart(told, "Age of the oldest", duration, [line("waits", "c", of("oldest_pending_seconds"), true)], { now: now(status.oldest_pending_seconds) }),
    chart(told, "Reads from the cache", percent, [line("hit ratio", "b", of("hit_ratio"), true)], { most: 1, scale: share, now: [lastRatio(told)], about: "last minute" }),
    chart(told, "A read takes", duration, [line("hit, half", "b", latency("hit", "p50")), line("hit, 99 %", "b", latency("hit", "p99"), false, [3, 3]), line("miss, half", "c", latency("miss", "p50")), line("miss, 99 %", "c", latency("miss", "p99"), false, [3, 3])]),
    chart(told, "Memory of Redis", bytes, [line("used", "a", of("used_memory"), true), ...limit(of("max_memory"))], { steps: BINARY }),
    chart(told, "Evictions of Redis", rate, [line("entries", "a", of("evictions_per_second"), true)]),
    chart(told, "Operations of MongoDB", rate, [line("all", "c", of("mongodb_operations_per_second")), line("our writes", "b", of("operations_per_second"))], { aside: aside(told, "connections", of("mongodb_connections")) }),
    chart(told, "Tasks that wait", count, Object.keys(told?.broker ?? { flush: 0 }).map((queue, place) => line(queue, "abcd"[place % 4], of("broker", queue))), { steps: WHOLE }),
  ];
}

/** The charts of the view of reads. */
export function readCharts(told) {
  const of = columns(told);
  const latencies = (part) => Object.keys(SOURCES).map((source, place) => line(source, "bdacfe"[place], of("latency", source, part))).filter((one) => one.values.some((value) => value !== null));
  const none = [line("reads", "b", of("nothing"))];
  const [half, most] = [latencies("p50"), latencies("p99")];
  return [
    chart(told, "Reads from the cache", percent, [line("hit ratio", "b", of("hit_ratio"), true)], { most: 1, scale: share, now: [lastRatio(told)], about: "last minute" }),
    chart(told, "Half of the reads take at most", duration, half.length ? half : none),
    chart(told, "99 % of the reads take at most", duration, most.length ? most : none),
  ];
}

/** The hit ratio of the last minute: those of its seconds, each by its number of reads; `null` where there were none. */
function lastRatio(told) {
  let [hits, reads] = [0, 0];
  (told?.time ?? []).forEach((at, place) => {
    const [ratio, number] = [told.hit_ratio?.[place], told.reads_per_second?.[place]];
    if (at <= told.now - RATIO_S || ratio == null || !number) return;
    hits += ratio * number;
    reads += number;
  });
  return reads ? hits / reads : null;
}

/** Latencies by source, as they were last, where anything was read from it lately. */
export function sources(told) {
  if (!told) return null;
  const from = told.time.findIndex((at) => at > told.now - LATELY_S);
  if (from < 0) return [];
  const last = (values) => values?.slice(from).findLast((value) => value !== null);
  return Object.entries(SOURCES)
    .map(([name, what]) => ({ name, what, p50: last(told.latency?.[name]?.p50), p99: last(told.latency?.[name]?.p99) }))
    .filter((one) => one.p50 !== undefined);
}

/** A function that finds a list of a history by its names; a list of nothing where there is none. */
function columns(told) {
  const nothing = (told?.time ?? []).map(() => null);
  return (...names) => names.reduce((found, name) => found?.[name], told) ?? nothing;
}

/** What is pending, and dead letters, at each time: both are lost with Redis. */
function sums(values, others) {
  return values.map((value, place) => (value === null ? null : value + (others[place] ?? 0)));
}

function line(label, ink, values, fill = false, dash = undefined) {
  return { label, ink, values, fill, dash };
}

function chart(told, title, show, lines, more = {}) {
  const { time: times = [], breaker: broken = [], redis_away_seconds: away = [], now: until, isLost } = told ?? {};
  return { title, times, lines, show, broken, away, isLost, until, ...more };
}

/** The line of Redis's memory limit, where there is one. */
function limit(values) {
  return values.some(Boolean) ? [line("most", "d", values.map((one) => one || null), false, [4, 4])] : [];
}

/** A figure that has no line, as it was last known. */
function aside(told, label, values) {
  const last = values.findLastIndex((value) => value !== null);
  return last < 0 ? null : { label, value: count(values[last]), at: told.time[last] };
}
