/** Small charts of the last hour. */

import { Component, createRef, h } from "./vendor/preact.js";
import uPlot from "./vendor/uplot.js";
import { UNKNOWN, ago, duration } from "./units.js";

const HEIGHT = 116;
/** The longest time that is shown, and the shortest that is chosen by itself, seconds. */
const HOUR_S = 3600;
const LEAST_S = 300;
/** From this age on the latest value is old, seconds. */
const OLD_S = 5;
/** Points are that far apart at most where somebody records them, seconds. */
const APART_S = 45;
/** All charts show the same time, and one cursor. */
const together = uPlot.sync("hour");

/** A colour of the style sheet, as the canvas takes it. */
function colour(element, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  element.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/**
 * A chart.
 *
 * Props: `title`; `times`, in seconds since the epoch; `lines`, each with `label`, `ink` (a colour of the style sheet),
 * `values` (null where nothing is known) and perhaps `fill`; `show`, which writes a value, and `scale`, which writes one of the
 * scale, with `steps` that it may have; `now`, the latest values, and `about`, of what time they are; `most`, an upper end of the scale; `aside`, another
 * figure that has no line: its `label`, its `value` as text, and `at`, the time of it; `broken`, the states of the breaker before MongoDB at these
 * times; `away`, how long Redis had been away before each of them, and `isLost`, whether it is now; `until`, where the time ends, and `span`, how long it is,
 * seconds.
 */
export class Chart extends Component {
  constructor(props) {
    super(props);
    this.place = createRef();
    this.state = { at: null };
    this.redraw = () => this.draw();
  }

  componentDidMount() {
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.redraw);
    addEventListener("themechange", this.redraw);
    this.sizes = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
    });
    this.sizes.observe(this.place.current);
    this.draw();
  }

  componentWillUnmount() {
    this.scheme.removeEventListener("change", this.redraw);
    removeEventListener("themechange", this.redraw);
    this.sizes.disconnect();
    this.plot?.destroy();
  }

  componentDidUpdate(before) {
    if (before.lines.length !== this.props.lines.length) this.draw();
    else if (["times", "span", "until"].some((one) => before[one] !== this.props[one])) this.plot?.setData(this.data());
  }

  data() {
    const { times, lines } = this.props;
    return [times, ...lines.map((one) => one.values)];
  }

  /** The time that it shows: as long as is wanted, else what is known of the last hour. */
  shown() {
    const { until = Date.now() / 1000, span, times } = this.props;
    return [until - (span ?? Math.min(HOUR_S, Math.max(LEAST_S, until - (times[0] ?? 0)))), until];
  }

  /** Draw it anew, in the colours of the day. */
  draw() {
    const place = this.place.current;
    if (!place) return;
    this.plot?.destroy();
    const { lines, show, most, scale = show, steps } = this.props;
    const ink = colour(place, "muted");
    const grid = { stroke: colour(place, "grid"), width: 1 };
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: ink, font, grid, ticks: { show: false } };
    this.plot = new uPlot(
      {
        width: Math.max(120, Math.floor(place.clientWidth)),
        height: HEIGHT,
        padding: [8, 16, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: together.key }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
        scales: {
          x: { time: true, range: () => this.shown() },
          y: { range: (_plot, _least, top) => [0, most ?? (top > 0 ? top * 1.15 : (steps?.[0] ?? 1))] },
        },
        axes: [
          { ...axis, size: 22, gap: 4, space: 48, values: (_plot, ticks) => ticks.map(minute) },
          { ...axis, size: 54, gap: 6, space: 36, values: (_plot, ticks) => ticks.map((one) => scale(one)), ...(steps && { incrs: steps }) },
        ],
        series: [
          {},
          ...lines.map((one) => ({
            stroke: colour(place, one.ink),
            fill: one.fill ? colour(place, `${one.ink}-fill`) : undefined,
            width: 1.5,
            dash: one.dash,
            points: { show: true, size: 4, filter: (plot, place) => alone(plot.data[0], plot.data[place], this.props.away) },
            gaps: (plot, _line, first, last, gaps) => this.gaps(plot, first, last, gaps),
          })),
        ],
        hooks: {
          setCursor: [(plot) => this.point(plot.cursor.idx)],
          drawClear: [(plot) => this.shade(plot, colour(place, "bad-ground"))],
        },
      },
      this.data(),
      place,
    );
  }

  /** Times between which nothing was recorded, among points: no line joins these. */
  gaps(plot, first, last, gaps) {
    const { times, away = [] } = this.props;
    const place = (at) => plot.valToPos(times[at], "x", true);
    for (let at = Math.max(1, first); at <= last; at += 1) {
      if (away[at] || times[at] - times[at - 1] > APART_S) gaps.push([place(at - 1), place(at)]);
    }
    return gaps.sort(([one], [other]) => one - other);
  }

  /** Mark the times at which Redis or MongoDB did not answer. */
  shade(plot, ink) {
    const { times, broken = [], away = [], isLost, until } = this.props;
    const { left, top, width, height } = plot.bbox;
    const fill = (since, then) => {
      const from = Math.max(left, plot.valToPos(since, "x", true));
      const to = Math.min(left + width, Math.max(from + 2, plot.valToPos(then, "x", true)));
      plot.ctx.fillRect(from, top, Math.max(0, to - from), height);
    };
    plot.ctx.save();
    plot.ctx.fillStyle = ink;
    away.forEach((seconds, at) => seconds && fill(times[at] - seconds, times[at]));
    if (isLost && times.length) fill(times.at(-1), until);
    for (let at = 0; at < broken.length; at += 1) {
      if (!broken[at] || broken[at] === "closed") continue;
      const first = at;
      while (at + 1 < broken.length && broken[at + 1] !== "closed") at += 1;
      fill(times[first], times[at]);
    }
    plot.ctx.restore();
  }

  /** Show the values at a place of the time, or the latest. */
  point(at) {
    const next = at ?? null;
    if (next !== this.state.at) this.setState({ at: next });
  }

  render({ title, times, lines, show, now, about, aside, until, away = [] }, { at }) {
    const pointed = at !== null && at < times.length;
    const places = lines.map((one) => one.values.findLastIndex((value) => value !== null));
    const latest = lines.map((one, place) => (now ? now[place] : one.values[places[place]]));
    const ages = places.map((place) => (pointed || now || place < 0 ? 0 : until - times[place]));
    const values = pointed ? lines.map((one) => one.values[at]) : latest;
    const said = lines.map((one, place) => `${one.label} ${show(latest[place])}`).join(", ");
    const gone = away.flatMap((seconds, place) => (seconds ? [`${duration(seconds)} until ${minute(times[place], true)}`] : [])).join(", ");
    return h(
      "figure",
      { class: "chart panel" },
      h(
        "figcaption",
        null,
        h("h3", null, title, pointed ? h("span", { class: "note" }, ` ${minute(times[at], true)}`) : null),
        h(
          "dl",
          { class: "legend" },
          lines.map((one, place) =>
            h(
              "div",
              { key: one.label, class: ages[place] > OLD_S ? "old" : "" },
              h(
                "dt",
                null,
                lines.length > 1 || one.dash ? h("i", { class: `swatch ink-${one.ink}` }) : null,
                one.label,
                about && !pointed ? `, ${about}` : null,
                ages[place] > OLD_S ? `, ${ago(ages[place])}` : null,
              ),
              h("dd", null, values[place] == null ? UNKNOWN : show(values[place])),
            ),
          ),
          aside && !pointed
            ? h("div", { class: until - aside.at > OLD_S ? "old" : "" }, h("dt", null, aside.label, until - aside.at > OLD_S ? `, ${ago(until - aside.at)}` : null), h("dd", null, aside.value))
            : null,
        ),
      ),
      h("div", { class: "plot", ref: this.place, role: "img", "aria-label": `${title}, over time. Now: ${said}${gone && `. Redis did not answer for ${gone}`}` }),
    );
  }
}

/** The places of values that no line joins to another one: a line alone would not show them. */
export function alone(times, values, away = []) {
  const isJoined = (at) => values[at] != null && values[at - 1] != null && !away[at] && times[at] - times[at - 1] <= APART_S;
  return values.flatMap((value, at) => (value != null && !isJoined(at) && !isJoined(at + 1) ? [at] : []));
}

/** A time of day. */
function minute(seconds, exact = false) {
  const time = new Date(seconds * 1000).toLocaleTimeString("en-GB");
  return exact === true ? time : time.slice(0, 5);
}
