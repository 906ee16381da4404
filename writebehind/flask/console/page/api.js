/** The way to the API: where it is, who asks, and what went wrong. */

/** The page is `…/console`, and the API stands beside it, whatever prefix a proxy has put before both. */
export const BASE = new URL(".", document.baseURI);
/** So long an answer is waited for, ms. */
const PATIENCE_MS = 8_000;

/** The event that tells of another token. */
export const ASKER_CHANGED = "askerchange";

/** The bearer token, or API key. It is kept here and nowhere else: a page that is loaded anew asks for it again. */
let token = "";

/** Whoever asks is another one from now on: what is followed is asked for anew, as an event says. */
export function setToken(given) {
  token = given.trim();
  dispatchEvent(new Event(ASKER_CHANGED));
}

export function hasToken() {
  return token !== "";
}

/** An answer that is none: `status` is that of HTTP, or 0 where nobody answers. */
export class ApiError extends Error {
  constructor(status, message, type = "", { last_known: lastKnown = null, to_do: toDo = [] } = {}) {
    super(message);
    this.status = status;
    this.type = type;
    /** What was only in Redis when it was last seen, where it does not answer and anybody has seen it. */
    this.lastKnown = lastKnown;
    /** What to do about it, as a status has it. */
    this.toDo = toDo;
  }

  /** Whether Redis does not answer, or loads its data. */
  get redisAway() {
    return /:redis-(unavailable|not-ready)$/.test(this.type);
  }

  /** Whether Redis answers that it cannot serve now. */
  get redisNotReady() {
    return this.type.endsWith(":redis-not-ready");
  }

  /** Whether the API wants to know who asks. */
  get unauthorized() {
    return this.status === 401 || this.status === 403;
  }
}

/** The address of a path of the API, of segments that may hold anything. */
export function path(...segments) {
  return segments.map(encodeURIComponent).join("/");
}

/**
 * Ask the API.
 *
 * @param {string} where a path below the API's prefix, without a slash before it
 * @param {string} method of HTTP
 * @returns {Promise<any>} what the answer says, with each number as it was sent
 * @throws {ApiError} where there is no answer, or it is a problem
 */
export async function ask(where, method = "GET") {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  let text;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    answer = await fetch(new URL(where, BASE), { method, headers, signal, cache: "no-store" });
    text = await answer.text();
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new ApiError(0, late ? `no answer within ${PATIENCE_MS / 1000} s; on its host writebehind doctor names the process` : "nobody answers at its address");
  }
  let told = null;
  try {
    told = JSON.parse(text, exactly);
  } catch {
    // Something before the API has answered: the status says enough.
  }
  if (answer.ok && told !== null) return told;
  const why = told?.detail || told?.title || answer.statusText || "no reason given";
  throw new ApiError(answer.status, why, told?.type, told ?? {});
}

/** A reviver: a number that JavaScript would write in another way than it was sent stays as it is. */
function exactly(_name, value, context) {
  const changed = typeof value === "number" && context?.source !== undefined && String(value) !== context.source;
  return changed && !Number.isSafeInteger(value) && JSON.rawJSON && !/[.eE]/.test(context.source)
    ? JSON.rawJSON(context.source)
    : value;
}
