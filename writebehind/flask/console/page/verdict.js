/** The answer to the one question: how much would be lost now, and when is it safe? */

import { ago, count, duration, rate, some } from "./units.js";

/** From this lateness on a pending write waits for longer than a flush task that was lost, seconds. */
const LATE_S = 30;
/** A time until refusals that is worth a warning, seconds. */
const SOON_S = 600;

/** The headline while nobody is let in but with the root key or a token. */
const KEYS_LOST = {
  title: "Redis has lost all API keys: requests are refused",
  text: "Only the root key and tokens of an issuer open anything. On the command line: writebehind keys create.",
};

/**
 * A verdict on a status.
 *
 * @param {object} status as `/admin/status` has it
 * @param {number} now seconds since the epoch
 * @returns {{level: "ok" | "warn" | "bad", title: string, text: string, reason?: string}} `reason` is a server's own word
 */
export function verdict(status, now) {
  const found = { level: levelOf(status, () => true), ...lostOr(status, () => headline(status, now)) };
  const paused = status.paused ?? [];
  const matters = status.pending || isAll(paused);
  if (!paused.length || !matters || `${found.title} ${found.text}`.includes(" is paused")) return found;
  return { ...found, text: `${found.text} Flushing of ${pausedOf(paused)} is paused. ${untilWhen(paused)}` };
}

/**
 * The level of a part of the system: how bad the status says that it is, as all other views do.
 *
 * @param {object} status as `/admin/status` has it
 * @param {(remedy: object) => boolean} isOf whether something that is to be done is about that part
 * @param {string} otherwise the level where there is nothing to be done about it
 */
export function levelOf(status, isOf, otherwise = "ok") {
  const found = (status.to_do ?? []).filter(isOf).map((one) => ({ warning: "warn", critical: "bad" })[one.severity]);
  return ["bad", "warn"].find((one) => found.includes(one)) ?? otherwise;
}

/** Whether something that is to be done is about this. */
export function isAbout(...names) {
  return (remedy) => names.includes(remedy.about);
}

/** The headline while documents are known to be lost with the data of Redis; null while none are. */
function dataLost(losses) {
  if (!losses?.length) return null;
  const documents = losses.reduce((sum, one) => sum + one.pending + one.dead_letters, 0);
  return {
    title: `Redis has lost data: at least ${some(documents, "acknowledged document")} ${documents === 1 ? "was" : "were"} only there`,
    text: `Last seen at ${losses.at(-1).at}. Keep its old files. Once you have seen to it: writebehind doctor --loss-seen.`,
  };
}

/** The headline while Redis has lost something; else the other one. */
function lostOr(status, headlineOf) {
  return dataLost(status.lost_data) ?? (status.lost_keys ? KEYS_LOST : headlineOf());
}

/** The words of the verdict, which a pause of some collections does not change. */
function headline(status, now) {
  const waiting = status.pending;
  const letters = status.dead_letters;
  const lost = `${some(waiting + letters, "document")} would be lost with Redis`;
  const cap = status.seconds_until_cap;
  const away = (status.away ?? []).filter((one) => one.partitions.length);
  if (away.length) {
    const partitions = away.flatMap((one) => one.partitions).length;
    return {
      title: `${serversOf(away)} of Redis does not answer: nobody knows what would be lost with it`,
      text: `Writes to ${some(partitions, "partition")} of ${count(status.partitions)} are refused until it is back. The others go on, and all figures are theirs: ${lost}.`,
    };
  }
  if (status.redis_refuses) {
    const partitions = (status.refusing ?? []).flatMap((one) => one.partitions).length;
    const to = partitions ? ` to ${count(partitions)} of ${some(status.partitions, "partition")}` : "";
    const ofThese = partitions ? " of these, and the others go on" : "";
    return {
      level: "bad",
      title: `Redis refuses whatever is written${to}: ${lost}`,
      text: `Clients get 503, and workers can persist nothing${ofThese}. What is acknowledged waits there, and all goes on by itself once Redis takes writes.`,
      reason: status.redis_refuses,
    };
  }
  const paused = status.paused ?? [];
  if (isAll(paused) && !trouble(status) && cap !== 0) {
    return {
      title: `Flushing of ${pausedOf(paused)} is paused: ${lost}`,
      text: `Writes are acknowledged by Redis and wait there${refusals(cap)}. ${untilWhen(paused)}`,
    };
  }
  if (trouble(status)) {
    return {
      title: waiting || letters ? `${unserved(status)}: ${lost}` : `${unserved(status)}; nothing waits for it yet`,
      text: `${broken(status, now)} Writes are acknowledged by Redis and wait there${refusals(cap)}.`,
      reason: reasonOf(status).replace(/^(MongoDB (does not answer|gives no sign of life): )+/, ""),
    };
  }
  if (status.mongodb_refuses) {
    return {
      title: `MongoDB answers, and takes nothing that is written: ${lost}`,
      text: `Writes are acknowledged by Redis and wait there${refusals(cap)}.`,
      reason: status.mongodb_refuses,
    };
  }
  if (cap === 0) {
    const full = status.cap === "memory" ? 0 : (status.full_partitions?.length ?? 0);
    if (full && full < status.partitions) {
      return {
        title: `Writes to ${count(full)} of ${count(status.partitions)} partitions are refused now: ${lost}`,
        text: "Too many documents wait for MongoDB there: new ones get 503 until there is room. The other partitions take documents.",
      };
    }
    return {
      title: `Writes are refused now: ${lost}`,
      text: `${status.cap === "memory" ? "Redis is short of memory" : "Too many documents wait for MongoDB"}: new documents get 503 until there is room.`,
    };
  }
  const drained = status.seconds_until_drained;
  if (waiting && (status.unconsumed ?? []).includes("flush")) return unworked(status, lost);
  const isSoon = typeof cap === "number" && cap < SOON_S;
  if (waiting && !isSoon && status.grows_per_second) {
    return { title: `More comes than goes: ${lost}`, text: `${outrun(status)} ${when(status)}` };
  }
  if (waiting && isSoon) {
    return {
      title: typeof drained === "number" ? `More comes than goes: ${lost}` : `Nobody knows when all is safe: ${lost}`,
      text: `${typeof drained === "number" ? `${outrun(status)} `.trimStart() : `${unsafe(status)} `}At this rate new documents are refused in ${duration(cap)}${status.cap === "memory" ? ", for Redis's memory" : ""}. Nothing is dropped; clients get 503 then.`,
    };
  }
  if (waiting && status.overdue_seconds > LATE_S) {
    return {
      title: `${some(waiting, "document")} not in MongoDB, one of them overdue for ${duration(status.overdue_seconds)}`,
      text: `${when(status)} Look at the workers and at MongoDB's load.`,
    };
  }
  const refused = letters ? ` ${some(letters, "dead letter waits", "dead letters wait")} for a decision, in Redis only.` : "";
  if (waiting) {
    const way = typeof drained === "number" ? "on the way to MongoDB" : waiting === 1 ? "waits for MongoDB" : "wait for MongoDB";
    return {
      title: `${some(waiting, "document")} ${way}${letters ? `, ${count(letters)} refused by it` : ""}`,
      text: `${when(status)}${refused}`,
    };
  }
  return {
    title: letters ? `All is in MongoDB but ${some(letters, "dead letter")}` : "Nothing would be lost: all that was acknowledged is in MongoDB",
    text: letters ? refused.trim() : lastly(status),
  };
}

/** A verdict while documents wait and no worker consumes the queue that persists them. */
function unworked(status, lost) {
  const cap = refusals(status.seconds_until_cap);
  if (status.partitions_at_work && typeof status.seconds_until_drained !== "number") {
    return {
      title: `Somebody has begun to persist: ${lost}`,
      text: `No worker consumes the queue flush yet. Partitions are taken up already, as a worker does that starts, or writebehind drain${cap}.`,
    };
  }
  if (status.partitions_at_work) {
    return {
      title: `Persisted without a worker: ${lost}`,
      text: `${when(status)} Somebody is at work, as writebehind drain is, or a worker that starts; what is written after it has ended waits until a worker consumes the queue flush${cap}.`,
    };
  }
  return {
    title: `Nobody persists: ${lost}`,
    text: `No worker consumes the queue flush. Start one, and what waits is persisted by itself${cap}.`,
  };
}

/**
 * A verdict while Redis is away.
 *
 * @param {object | null} known what was only there, as the API has last known it
 * @param {object[]} toDo what to do, as the API says it
 * @param {string} says why it cannot serve now, as the API says it; "" where it does not answer
 */
export function lost(known, toDo = [], says = "") {
  const isBoth = toDo.some((one) => one.about === "mongodb");
  const because = says && `${says.replace(/[^.]$/, "$&.")} `;
  const refused = isBoth
    ? `MongoDB does not answer${says ? "" : " either"}: writes are refused until Redis is back, and reads until either is.`
    : "Writes are refused until it is back, and reads go to MongoDB.";
  const silent = isBoth ? "Redis and MongoDB do not answer" : "Redis does not answer";
  const who = says ? "Redis cannot serve now" : silent;
  const there = isBoth ? "in Redis" : "there";
  if (!known) return { title: `${who}, and nobody here has seen how much is only ${there}`, text: `${because}${refused}` };
  const documents = `${known.pending + known.dead_letters ? "at least " : ""}${some(known.pending + known.dead_letters, "document")}`;
  return { title: `${who}: ${documents} ${known.pending + known.dead_letters === 1 ? "was" : "were"} only ${there}`, text: `${because}${refused} What was written after that was seen is not counted.` };
}

/** Names of servers of Redis that do not answer while others do. */
export function serversOf(away) {
  return `Server ${away.map((one) => one.server).join(", ")}`;
}

/** The collections that are paused, in words. */
export function pausedOf(paused) {
  return isAll(paused) ? "all collections" : paused.map((one) => one.collection).join(", ");
}

/** Whether all collections are paused. */
function isAll(paused) {
  return paused.some((one) => !one.collection);
}

/** When flushing goes on. */
function untilWhen(paused) {
  const open = paused.some((one) => one.seconds_left === null);
  const left = Math.max(...paused.map((one) => one.seconds_left ?? 0));
  return open ? "It goes on when somebody resumes it." : `It goes on by itself in ${duration(left)}.`;
}

/** Whether no server that answers knows a figure. */
export function isUnknown(status, figure) {
  return (status.unknown ?? []).includes(figure);
}

/** Whether MongoDB does not answer: the breaker opens only after some failures. */
export function trouble(status) {
  return (status.breaker ?? "closed") !== "closed" || Boolean(status.mongodb_error);
}

/** What is wrong with MongoDB: one that answers with errors is not frozen. */
export function unserved(status) {
  const isBroken = (status.to_do ?? []).some((one) => one.condition === "mongodb" && one.found.startsWith("MongoDB answers"));
  return isBroken ? "MongoDB answers with an error" : "MongoDB does not answer";
}

function reasonOf(status) {
  return status.mongodb_error ?? status.breaker_reason ?? "";
}

/** The state of the breaker, and since when, as a sentence. */
function broken(status, now) {
  if (status.breaker === null) return "The state of the breaker is not known.";
  if (status.breaker === "closed") return "The breaker is still closed.";
  const since = status.breaker_since ? ` opened ${duration(Math.max(0, now - status.breaker_since))} ago` : " is open";
  return `The breaker${since}${status.breaker === "half-open" ? ", and one request tries whether MongoDB is back" : ""}.`;
}

/** When everything that is pending is safe, or why that is not known. */
function when(status) {
  const drained = status.seconds_until_drained;
  return typeof drained === "number" ? `What is pending by now is in MongoDB in about ${duration(drained)}.` : unsafe(status);
}

/** How much more comes than goes, as a sentence. */
function outrun(status) {
  const goes = status.flushed_per_second ?? 0;
  return status.grows_per_second ? `Documents come at ${rate(status.grows_per_second + goes)}, and go at ${rate(goes)}.` : "";
}

/** Why it is not known when everything is safe. */
function unsafe(status) {
  return status.not_safe_because ? `It is not known when they are safe: ${status.not_safe_because}.` : "They are persisted in the background.";
}

/** When writes will be refused. */
function refusals(cap) {
  if (cap === 0) return "; new ones are refused now, as a cap is met";
  return typeof cap === "number" ? `; new ones are refused in ${duration(cap)} at this rate` : "";
}

function lastly(status) {
  const sweep = status.periodic?.sweep;
  return sweep ? `Last looked for what was left behind ${ago(sweep.seconds_ago)}.` : "No write waits.";
}
