/** Figures as people read them: with units, in few digits, of one width where they change. */

/** Keeps a number and its unit on one line. */
const SPACE = "\u00a0";
/** Stands for what is not known. */
export const UNKNOWN = "–";

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const STEPS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** Whether a figure is known. */
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** Three digits of a number, without zeros behind the point. */
const three = (value) => String(Number(value.toPrecision(3)));

/** A number of things: 9,876; 12.3k; 4.56M. */
export function count(value) {
  if (!known(value)) return UNKNOWN;
  if (Math.abs(value) < 10_000) return WHOLE.format(value);
  const [size, letter] = STEPS.find(([least]) => Math.abs(value) >= least * 0.9995);
  return three(value / size) + letter;
}

/** A number of things, with the word for one, or for several: 1 write, 3 writes. */
export function some(value, one, several = `${one}s`) {
  return `${count(value)}${SPACE}${value === 1 ? one : several}`;
}

/** A number per second: 0.26/s, 3.4/s, 850/s, 12.3k/s. */
export function rate(value) {
  if (!known(value)) return UNKNOWN;
  return `${value > 0 && value < 9.95 ? Number(value.toPrecision(2)) : count(value)}/s`;
}

/** A time in seconds: 85 ms, 1.2 s, 3 min, 2 h 5 min, 4 d. */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 0.000_001) return `0${SPACE}s`;
  if (seconds < 0.009_95) return `${Number((seconds * 1000).toPrecision(2))}${SPACE}ms`;
  if (seconds < 0.999_5) return `${Math.round(seconds * 1000)}${SPACE}ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)}${SPACE}s`;
  if (seconds < 119.5) return `${Math.round(seconds)}${SPACE}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes}${SPACE}min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}${SPACE}h${minutes % 60 ? `${SPACE}${minutes % 60}${SPACE}min` : ""}`;
  return `${Math.round(hours / 24)}${SPACE}d`;
}

/** How long ago something was. */
export function ago(seconds) {
  return known(seconds) ? (seconds < 1 ? "just now" : `${duration(seconds)} ago`) : "never";
}

/** A number of bytes: 512 B, 1.5 KiB, 20 MiB. */
export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit ? three(size) : Math.round(size)}${SPACE}${units[unit]}`;
}

/** A fraction in per cent, with as many nines as it has: 93.4 %, 99.987 %, 100 %. */
export function percent(ratio) {
  if (!known(ratio)) return UNKNOWN;
  if (ratio === 0 || ratio === 1) return `${ratio * 100}${SPACE}%`;
  const nines = Math.floor(-Math.log10(1 - ratio) + 1e-9);
  const digits = Math.min(8, Math.max(1, nines));
  const scale = 10 ** (digits + 2);
  return `${(Math.floor(ratio * scale + 1e-6) / scale * 100).toFixed(digits)}${SPACE}%`;
}

/** A fraction in whole per cent, for scales. */
export function share(ratio) {
  return `${Math.round(ratio * 100)}${SPACE}%`;
}

/** A fraction in nines: 3.0 nines for 99.9 %; `null` where it is 1, or not known. */
export function nines(ratio) {
  if (!known(ratio) || ratio >= 1) return null;
  return `${(Math.floor(-Math.log10(1 - ratio) * 10 + 1e-6) / 10).toFixed(1)}${SPACE}nines`;
}

/** A time of day: 14:03:27, with the day where it was another one. */
export function clock(secondsSinceEpoch) {
  if (!known(secondsSinceEpoch)) return UNKNOWN;
  const then = new Date(secondsSinceEpoch * 1000);
  const time = then.toLocaleTimeString("en-GB");
  return then.toDateString() === new Date().toDateString() ? time : `${then.toLocaleDateString("en-CA")} ${time}`;
}
