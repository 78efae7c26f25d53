// The public HTTP API (docs/api.md), which is all this page talks to.
import { signal } from "./html.js";
import { apiKey } from "./preferences.js";

/** True when the server wants a key, or another one. */
export const keyAsked = signal(false);

/**
 * A request that the server refused, or (status 0) that never reached it or was cut off. `message` is the server's own sentence,
 * `code` its name for what is wrong, `wait` the seconds after which it may be asked again.
 */
export class ApiError extends Error {
  constructor(status, message, { code = null, wait = null } = {}) {
    super(message);
    Object.assign(this, { status, code, wait });
  }
}

async function request(path, { body, signal } = {}) {
  const headers = {};
  if (apiKey.value) headers.Authorization = `Bearer ${apiKey.value}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, error.message);
  }
  if (response.status === 401) keyAsked.value = true;
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const told = await response.json().catch(() => ({}));
  return new ApiError(response.status, told.error?.message ?? response.statusText, {
    code: told.error?.code,
    wait: response.headers.get("Retry-After"),
  });
}

/** The JSON that a path answers; throws ApiError, as all here. */
export const get = async (path) => (await request(path)).json();

/** The JSON that it answers to a body; aborting `signal` ends the request. */
export const post = async (path, body, signal) => (await request(path, { body, signal })).json();

/** A picture as a data: address: an <img> cannot send the key, and the page's policy allows no other source. */
export const picture = async (path) => asAddress(await (await request(path)).blob());

/** A file, or what else has bytes, as a data: address. */
export const asAddress = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

/** Yields the JSON of each server-sent event until [DONE]. Aborting `signal` closes the connection, which frees the server. */
export async function* stream(path, body, signal) {
  const response = await request(path, { body, signal });
  for await (const data of eventData(response.body)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(500, event.error.message);
    yield event;
  }
  throw new ApiError(0, "the reply broke off");
}

/** The `data` of each event in a text/event-stream; an event may arrive in pieces, and its lines end in \n or \r\n. */
async function* eventData(bytes) {
  const reader = bytes.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new ApiError(0, error.message);
    });
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trimStart();
  }
}
