/** The page to which a provider leads back after a login: it hands on what it was told, and closes. */

import { CHANNEL } from "./login.js";

const told = location.search;
history.replaceState(null, "", location.pathname);
new BroadcastChannel(CHANNEL).postMessage(told);
close();
