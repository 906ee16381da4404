/** What is asked of the API again and again, for as long as somebody looks. */

import { Component } from "./vendor/preact.js";
import { ASKER_CHANGED, ApiError, ask } from "./api.js";

/** Who is refused is asked for a key, and until there is another one each question is a refusal in the audit log, ms. */
const REFUSED_MS = 60_000;

/** An answer that is asked for every so often. A request begins only when the one before it has ended. */
export class Feed {
  /**
   * @param {() => string} path of the API, looked up at each request
   * @param {number} every ms
   * @param {() => void} changed is called after each answer, and after each failure
   */
  constructor(path, every, changed) {
    this.path = path;
    this.every = every;
    this.changed = changed;
    /** The last answer; it stays when a later request fails. */
    this.data = null;
    /** When it came, by the page's own clock, ms. */
    this.at = 0;
    /** Why the last request failed: an ApiError; `null` where it did not. */
    this.error = null;
    this.running = false;
    this.turn = 0;
    this.seen = () => document.hidden || this.refresh();
    this.asksAnew = () => this.refresh();
  }

  start() {
    this.running = true;
    document.addEventListener("visibilitychange", this.seen);
    addEventListener(ASKER_CHANGED, this.asksAnew);
    this.refresh();
  }

  stop() {
    this.running = false;
    this.turn += 1;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
    removeEventListener(ASKER_CHANGED, this.asksAnew);
  }

  /** Ask now. An answer that is on its way by then does not count any more. */
  async refresh() {
    clearTimeout(this.timer);
    const turn = (this.turn += 1);
    const began = performance.now();
    let answer = null;
    let error = null;
    try {
      answer = await ask(this.path());
    } catch (raised) {
      error = raised instanceof ApiError ? raised : new ApiError(0, String(raised));
    }
    if (turn !== this.turn || !this.running) return;
    this.error = error;
    if (!error) {
      this.take(answer);
      this.at = performance.now();
    }
    // Nobody looks at a page that is hidden: it asks when it is shown again.
    if (!document.hidden) {
      const every = error?.status === 401 || error?.status === 403 ? REFUSED_MS : this.every;
      this.timer = setTimeout(() => this.refresh(), Math.max(100, every - (performance.now() - began)));
    }
    this.changed();
  }

  /** Take an answer for the data; another kind of feed may add it to what it has. */
  take(answer) {
    this.data = answer;
  }

  /** Forget what was answered, and ask anew: something else is wanted. */
  restart() {
    this.data = null;
    this.refresh();
    this.changed();
  }

  /** The age of the last answer, seconds. */
  get age() {
    return (performance.now() - this.at) / 1000;
  }
}

/** A part of the page with feeds of its own, which are asked while it is shown. */
export class Live extends Component {
  constructor(props) {
    super(props);
    this.feeds = [];
  }

  /** Ask for a path every so many ms from now on; `path` may be a function, for one that changes. */
  follow(path, every) {
    return this.add(new Feed(typeof path === "function" ? path : () => path, every, () => this.setState({})));
  }

  /** Have a feed of another kind. */
  add(feed) {
    this.feeds.push(feed);
    return feed;
  }

  componentDidMount() {
    for (const feed of this.feeds) feed.start();
  }

  componentWillUnmount() {
    for (const feed of this.feeds) feed.stop();
  }
}
