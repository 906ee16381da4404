/** The page as a whole: what stands around each view, the status that all of them show, and what is asked of people. */

import { createElement, h } from "./vendor/preact.js";
import { hasToken, setToken } from "./api.js";
import { Confirmation, TokenQuestion } from "./dialogs.js";
import { Live } from "./feed.js";
import { Awaited, Figure, said, ToDo } from "./parts.js";
import { HistoryFeed } from "./series.js";
import { ago, bytes, clock, count, duration, some } from "./units.js";
import { lost } from "./verdict.js";
import { Conflicts } from "./views/conflicts.js";
import { Drift } from "./views/drift.js";
import { Explorer } from "./views/explorer.js";
import { Letters } from "./views/letters.js";
import { Now } from "./views/now.js";
import { Partitions } from "./views/partitions.js";
import { Processes } from "./views/processes.js";
import { Reads } from "./views/reads.js";

const STATUS_MS = 1_000;
const HISTORY_MS = 1_000;
/** From this age on figures are old, seconds. */
const OLD_S = 3;
/** So long it is said what an action has done, ms. */
const NOTICE_MS = 12_000;

/** The views by their address, in the order in which they stand. `alarm` is what a view's link counts. */
const VIEWS = {
  now: { name: "Now", view: Now },
  reads: { name: "Reads", view: Reads },
  partitions: { name: "Partitions", view: Partitions },
  processes: { name: "Processes", view: Processes, alarm: (status) => (status.unconsumed?.length ?? 0) + (status.silent_workers?.length ?? 0) },
  "dead-letters": { name: "Dead letters", view: Letters, alarm: (status) => status.dead_letters },
  conflicts: { name: "Conflicts", view: Conflicts },
  drift: { name: "Drift", view: Drift },
  explore: { name: "Explore", view: Explorer },
};
const SCHEMES = { auto: "light dark", light: "light", dark: "dark" };
const SCHEME_KEY = "writebehind.scheme";

/** The view and the rest of an address such as `#explore/users/ada`. */
function route() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const decoded = rest.map((one) => {
    try {
      return decodeURIComponent(one);
    } catch {
      return one;
    }
  });
  return { name: name in VIEWS ? name : "now", rest: decoded };
}

/** The colour scheme that was chosen on this machine before. */
function chosenScheme() {
  try {
    return localStorage.getItem(SCHEME_KEY) in SCHEMES ? localStorage.getItem(SCHEME_KEY) : "auto";
  } catch {
    return "auto"; // a browser that keeps nothing
  }
}

export class App extends Live {
  constructor(props) {
    super(props);
    this.status = this.follow("admin/status?partitions=true", STATUS_MS);
    this.history = this.add(new HistoryFeed(HISTORY_MS, () => this.setState({})));
    this.state = { route: route(), scheme: chosenScheme(), question: null, asksToken: false, notice: null };
    this.setScheme(this.state.scheme);
  }

  componentDidMount() {
    super.componentDidMount();
    addEventListener("hashchange", () => {
      this.setState({ route: route() });
      scrollTo(0, 0);
    });
    setInterval(() => this.setState({}), 1_000); // ages grow also while nobody answers
  }

  setScheme(scheme) {
    document.documentElement.style.colorScheme = SCHEMES[scheme];
    try {
      localStorage.setItem(SCHEME_KEY, scheme);
    } catch {
      // It holds until the page is left.
    }
    this.setState({ scheme });
    dispatchEvent(new Event("themechange"));
  }

  /** Ask whether something is to be done, do it, and say what came of it. */
  act = (question, action) => {
    this.setState({
      question: {
        ...question,
        answer: async (wanted) => {
          this.setState({ question: null });
          if (!wanted) return;
          try {
            this.tell("ok", await action());
          } catch (error) {
            this.tell("bad", said(error));
          }
          this.status.refresh();
        },
      },
    });
  };

  tell = (level, text) => {
    clearTimeout(this.forgets);
    this.setState({ notice: { level, text } });
    this.forgets = setTimeout(() => this.setState({ notice: null }), NOTICE_MS);
  };

  useToken = (given) => {
    this.setState({ asksToken: false });
    if (given !== null) setToken(given);
  };

  render(_props, { route: { name, rest }, scheme, question, asksToken, notice }) {
    const status = this.status.data;
    const old = status !== null && (this.status.error !== null || this.status.age > OLD_S);
    const isLost = Boolean(this.status.error?.redisAway);
    document.title = `${title(status, this.status.error)} · writebehind`;
    const { view } = VIEWS[name];
    return [
      h("a", { class: "skip", href: "#figures", onClick: skip }, "Skip to the figures"),
      h(
        "header",
        { class: "top" },
        h("a", { class: "brand", href: "#now" }, h("span", { class: "mark", "aria-hidden": "true" }), "writebehind"),
        h(Pulse, { feed: this.status, old }),
        h(
          "div",
          { class: "tools" },
          h(
            "label",
            null,
            h("span", { class: "hidden" }, "Colours"),
            h(
              "select",
              { value: scheme, onChange: (event) => this.setScheme(event.currentTarget.value) },
              h("option", { value: "auto" }, "Auto"),
              h("option", { value: "light" }, "Light"),
              h("option", { value: "dark" }, "Dark"),
            ),
          ),
          h("button", { type: "button", onClick: () => this.setState({ asksToken: true }) }, hasToken() ? "Key given" : "Key or token"),
        ),
        h(Navigation, { current: name, status }),
      ),
      h(Banner, { feed: this.status, onToken: () => this.setState({ asksToken: true }) }),
      isLost ? h(Lost, { error: this.status.error }) : null,
      h(
        "main",
        { id: "figures", tabIndex: -1, class: old ? "old" : "" },
        status || (name !== "now" && !this.status.error?.unauthorized)
          ? createElement(view, { key: name, status, isLost, failed: Boolean(this.status.error), history: this.history, rest, act: this.act, tell: this.tell })
          : h(Awaited, { failed: this.status.error }),
      ),
      h(Footer, { status }),
      h("div", { class: "notices", role: "status" }, notice ? h("p", { class: `notice ${notice.level}` }, notice.text) : null),
      question ? h(Confirmation, question) : null,
      asksToken ? h(TokenQuestion, { answer: this.useToken }) : null,
    ];
  }
}

function skip(event) {
  event.preventDefault();
  document.getElementById("figures").focus();
}

/** The title of the window, which tells also from another tab. */
function title(status, error) {
  if (error) return error.redisAway ? "Redis does not answer" : error.unauthorized ? "Not allowed" : "No answer";
  return status ? `${count(status.pending)} waiting` : "…";
}

function Navigation({ current, status }) {
  return h(
    "nav",
    { "aria-label": "Views" },
    Object.entries(VIEWS).map(([name, one]) => {
      const alarm = status ? (one.alarm?.(status) ?? 0) : 0;
      return h(
        "a",
        { key: name, href: `#${name}`, "aria-current": name === current ? "page" : undefined, ref: name === current ? bringIntoView : null },
        one.name,
        alarm ? h("span", { class: "badge" }, count(alarm)) : null,
      );
    }),
  );
}

/** The link of the view that is shown stands where it can be seen, also on a telephone. */
function bringIntoView(link) {
  const place = link?.parentElement;
  if (place && place.shown !== link) {
    place.shown = link;
    place.scrollLeft = link.offsetLeft - (place.clientWidth - link.offsetWidth) / 2;
  }
}

/** Whether the figures are live. */
function Pulse({ feed, old }) {
  if (feed.error?.unauthorized) return h("span", { class: "pulse off" }, "not allowed");
  if (!feed.data) return h("span", { class: "pulse off" }, feed.error ? "no answer" : "connecting");
  return h("span", { class: `pulse ${old ? "off" : "on"}` }, old ? `${duration(feed.age)} old` : "live");
}

/** One line that says why there are no new figures. */
function Banner({ feed, onToken }) {
  const stale = feed.data && feed.age > OLD_S;
  if (!feed.error && !stale) return h("div", { class: "banner-place", role: "alert" });
  const why = feed.error ? said(feed.error) : "The API takes its time.";
  const age = feed.data ? ` These figures are ${duration(feed.age)} old.` : "";
  const asks = feed.error?.unauthorized;
  return h(
    "div",
    { class: "banner-place", role: "alert" },
    h(
      "p",
      { class: "banner" },
      h("span", null, `${why.replace(/[^.]$/, "$&.")}${age}`),
      asks ? h("button", { type: "button", onClick: onToken }, "Give a key or token") : h("span", null, " The page asks again each second."),
    ),
  );
}

/** What was last known of a Redis that does not answer, and what to do. */
function Lost({ error }) {
  const { lastKnown: known, toDo } = error;
  const { title, text } = lost(known, toDo, error.redisNotReady ? error.message : "");
  return h(
    "section",
    { class: "verdict bad lost", "aria-labelledby": "lost" },
    h("h2", { id: "lost" }, title),
    h("p", null, text),
    h(ToDo, { remedies: toDo }),
    known
      ? h(
          "dl",
          { class: "figures" },
          h(Figure, { name: "Pending, last known", value: count(known.pending), note: bytes(known.pending_bytes) }),
          h(Figure, { name: "Dead letters, last known", value: count(known.dead_letters) }),
          h(Figure, { name: "Seen at", value: clock(Date.parse(known.at) / 1000), note: ago(known.seconds_ago) }),
        )
      : null,
  );
}

function Footer({ status }) {
  return h(
    "footer",
    null,
    status ? `writebehind ${status.version} · ${some(status.partitions, "partition")} · ` : null,
    h("a", { href: "docs" }, "API"),
    " · ",
    h("a", { href: "console/vendor/vendored.toml" }, "licences"),
  );
}
