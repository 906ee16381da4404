/**
 * A login at an OpenID Connect provider, in a window of its own: authorization code with PKCE (RFC 7636), as a public client.
 *
 * Nothing of it is stored: this page keeps the secret of the exchange in memory while the other window is open, and the
 * token as one that was typed in. The API decides what the token is worth; nothing is read from it here.
 */

import { BASE } from "./api.js";

/** Over which the window that comes back from the provider tells this page: a provider may cut it off from its opener. */
export const CHANNEL = "writebehind.login";
/** So long the provider is waited for once it is asked for the token, ms. */
const PATIENCE_MS = 10_000;

/**
 * The provider that this page may ask, as it came with the page: null where the API did not know it then.
 * Undefined where there is none.
 */
export function provider() {
  const told = document.querySelector('meta[name="login"]');
  return told ? JSON.parse(told.content) : undefined;
}

/**
 * Let a person log in.
 *
 * @param {object} provider that this page may ask
 * @param {AbortSignal} signal ends it, with its own reason
 * @returns {Promise<string>} the token
 * @throws {Error} with a reason for people
 */
export async function logIn(provider, signal) {
  if (!crypto.subtle) throw new Error("A login needs this page to come by https.");
  const place = open("", "_blank", "popup,width=520,height=720");
  if (!place) throw new Error("The browser lets this page open no window: allow it, and try again.");
  place.opener = null; // the provider's page has no business with this one
  const [verifier, state] = [random(), random()];
  const challenge = await hashed(verifier);
  if (signal.aborted) place.close(); // later the page in it is the provider's, which the browser lets this one not close
  signal.throwIfAborted();
  const redirect = new URL("console/login.html", BASE).href;
  const asked = {
    response_type: "code",
    client_id: provider.client_id,
    redirect_uri: redirect,
    scope: provider.scope,
    audience: provider.audience,
    state,
    code_challenge: challenge,
    code_challenge_method: "S256",
  };
  const address = new URL(provider.authorization_endpoint);
  for (const [name, value] of Object.entries(asked)) address.searchParams.set(name, value);
  const landing = landed(state, signal);
  place.location.replace(address);
  const told = await landing;
  signal.throwIfAborted();
  if (told.has("iss") && told.get("iss") !== provider.issuer) throw new Error("Somebody else than the provider has answered.");
  if (!told.get("code")) throw new Error(`The provider refuses: ${told.get("error_description") || told.get("error") || "no reason given"}`);
  return await exchanged(provider, { code: told.get("code"), redirect_uri: redirect, code_verifier: verifier }, signal);
}

/** What the provider has told the window that came back for this login. */
function landed(state, signal) {
  return new Promise((resolve, reject) => {
    const channel = new BroadcastChannel(CHANNEL);
    const end = (settle, how) => {
      channel.close();
      settle(how);
    };
    channel.onmessage = ({ data }) => {
      const told = new URLSearchParams(String(data));
      if (told.get("state") === state) end(resolve, told); // else it is for another tab
    };
    signal.addEventListener("abort", () => end(reject, signal.reason), { once: true });
  });
}

/** The token for a code. */
async function exchanged(provider, given, signal) {
  const body = new URLSearchParams({ grant_type: "authorization_code", client_id: provider.client_id, ...given });
  let answer;
  let told;
  try {
    const within = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
    answer = await fetch(provider.token_endpoint, {
      method: "POST",
      body,
      credentials: "omit",
      cache: "no-store",
      redirect: "error",
      signal: within,
    });
    told = await answer.json();
  } catch {
    signal.throwIfAborted();
    throw new Error("The provider gives this page no token: it has to know its origin (CORS), and to be reached. Load the page anew if it was away.");
  }
  if (!answer.ok || !told.access_token) {
    throw new Error(`The provider gives no token: ${told.error_description || told.error || "no reason given"}`);
  }
  return told.access_token;
}

function random() {
  return encoded(crypto.getRandomValues(new Uint8Array(32)));
}

async function hashed(text) {
  return encoded(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))));
}

/** Bytes in base64url. */
function encoded(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
