// What the server says of itself: whether it is ready, and which models it serves.
import { get } from "./api.js";
import { computed, effect, html, signal } from "./html.js";
import { t } from "./i18n.js";
import { apiKey, model } from "./preferences.js";

const WAITING_MS = 2_000;
const READY_MS = 20_000;

/** state: "ready", "waiting" (starting or stopping), "locked" (wants a key), or "away" (does not answer). */
export const server = signal({ state: "waiting", models: [] });

/** Whether the model chosen has documents to answer from. */
export const hasDocuments = computed(() => server.value.models.some(({ id, documents }) => id === model.value && documents));

/** Whether it reads images and sounds among its texts. */
export const readsParts = computed(() => server.value.models.some(({ id, parts }) => id === model.value && parts));

let timer;

async function ask() {
  clearTimeout(timer);
  try {
    const models = (await get("/v1/models")).data.filter(({ kind }) => kind === "chat");
    server.value = { state: "ready", models };
    if (!models.some(({ id }) => id === model.value)) model.value = models[0].id;
  } catch (error) {
    const state = { 0: "away", 401: "locked" }[error.status] ?? "waiting";
    server.value = { ...server.value, state };
  }
  if (server.value.state !== "locked") timer = setTimeout(ask, server.value.state === "ready" ? READY_MS : WAITING_MS);
}

/** Ask now and go on asking; a new key asks again. Returns the function that stops. */
export function watchServer() {
  const stop = effect(() => {
    apiKey.value; // read so that a change runs this again
    ask();
  });
  return () => {
    stop();
    clearTimeout(timer);
  };
}

const LOOK = { ready: "ready", waiting: "waiting", locked: "away", away: "away" };

/** The dot and the model's name in the header, or what is wrong. */
export const ServerStatus = () => html`
  <span class="status ${LOOK[server.value.state]}" role="status" title=${t(`server.${server.value.state}`)}>
    <span>${server.value.state === "ready" ? model.value : t(`server.${server.value.state}`)}</span>
  </span>
`;
