/** What is asked of people: in the page, above everything else, until they answer. */

import { Component, createRef, h } from "./vendor/preact.js";

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

/** The token that the API wants to see. */
export class TokenQuestion extends Component {
  constructor(props) {
    super(props);
    this.input = createRef();
  }

  render({ answer }) {
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
        h("p", null, "Requests of this page have this bearer token from now on. It is kept in memory only: load the page anew, and it is forgotten."),
        h("label", { class: "field" }, "Token", h("input", { ref: this.input, type: "password", autocomplete: "off", spellcheck: false, autofocus: true })),
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
