/** What is asked of people: in the page, above everything else, until they answer. */

import { Component, createRef, h } from "./vendor/preact.js";
import { logIn, provider } from "./login.js";

/** A dialog. `answer` is called with what was answered, or with `refusal` where it was closed otherwise. */
class Dialog extends Component {
  constructor(props) {
    super(props);
    this.place = createRef();
  }

  componentDidMount() {
    this.place.current.showModal();
  }

  componentWillUnmount() {
    this.place.current.close(); // the focus goes back to where it was
  }

  render({ title, children, answer, refusal }) {
    const refuse = (event) => {
      event.preventDefault();
      answer(refusal);
    };
    return h("dialog", { ref: this.place, "aria-labelledby": "question", onCancel: refuse }, h("h2", { id: "question" }, title), children);
  }
}

/** Whether something is to be done: `title` asks, `text` says what it means, `action` names it. */
export function Confirmation({ title, text, action, danger, answer }) {
  return h(
    Dialog,
    { title, answer, refusal: false },
    h("p", null, text),
    h(
      "div",
      { class: "answers" },
      h("button", { type: "button", autofocus: danger, onClick: () => answer(false) }, "Cancel"),
      h("button", { type: "button", autofocus: !danger, class: danger ? "danger" : "primary", onClick: () => answer(true) }, action),
    ),
  );
}

/** The token that the API wants to see: from a login, where there is a provider for one, or typed in. */
export class TokenQuestion extends Component {
  constructor(props) {
    super(props);
    this.input = createRef();
    this.login = null; // the one that is waited for
    this.provider = provider();
    this.state = { waits: false, fault: "" };
  }

  componentWillUnmount() {
    this.login?.abort();
  }

  /** Log in; in the place of a login whose window was closed, which a page is not told of where a provider cuts it off. */
  logIn = async () => {
    this.login?.abort();
    this.login = new AbortController();
    const { signal } = this.login;
    this.setState({ waits: true, fault: "" });
    try {
      const token = await logIn(this.provider, signal);
      if (!signal.aborted) this.props.answer(token);
    } catch (error) {
      if (!signal.aborted) this.setState({ waits: false, fault: error.message });
    }
  };

  render({ answer }, { waits, fault }) {
    const { provider: known } = this;
    const give = (event) => {
      event.preventDefault();
      answer(this.input.current.value);
    };
    return h(
      Dialog,
      { title: "Who asks?", answer, refusal: null },
      h(
        "form",
        { onSubmit: give },
        known &&
          h(
            "div",
            { class: "login" },
            h("button", { type: "button", class: "primary", onClick: this.logIn }, `Log in at ${new URL(known.issuer).host}`),
            h("p", { role: "status" }, waits ? "Log in in the other window. If it is closed, press again." : fault),
          ),
        known === null && h("p", null, "Nobody can log in here, as the provider did not answer: load the page anew, or give a token."),
        h("p", null, "Requests of this page have this API key or bearer token from now on. It is kept in memory only: load the page anew, and it is forgotten."),
        h("label", { class: "field" }, "Key or token", h("input", { ref: this.input, type: "password", autocomplete: "off", spellcheck: false, autofocus: true })),
        h(
          "div",
          { class: "answers" },
          h("button", { type: "button", onClick: () => answer(null) }, "Cancel"),
          h("button", { type: "submit", class: "primary" }, "Use it"),
        ),
      ),
    );
  }
}
