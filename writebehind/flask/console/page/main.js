/** The console: what writebehind does, for people who would rather look than read. */

import { h, render } from "./vendor/preact.js";
import { App } from "./app.js";

const place = document.createElement("div");
place.id = "app";
document.body.append(place);
render(h(App), place);
