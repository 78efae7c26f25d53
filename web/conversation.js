// The conversation: its turns, and the one request that may be running.
import { stream } from "./api.js";
import { computed, signal } from "./html.js";
import { closeSide } from "./opened.js";
import { EMPTY, read, requestBody } from "./reply.js";

/** The turns, each {question, answer}: `answer` is a signal of a reply (see reply.js). */
export const turns = signal([]);

/** What the composer holds. */
export const draft = signal("");

/** Whether a reply is being written. */
export const streaming = computed(() => turns.value.at(-1)?.answer.value.state === "streaming");

let running = null; // the AbortController of the request

/** Put a question; its turn is the last, and its answer grows until the reply ends, fails or is stopped. */
export async function ask(question) {
  const body = requestBody(turns.value, question);
  const answer = signal(EMPTY);
  const change = (news) => (answer.value = { ...answer.value, ...news });
  turns.value = [...turns.value, { question, answer }];
  running = new AbortController();
  try {
    for await (const event of stream("/v1/chat/completions", body, running.signal)) change(read(answer.value, event));
    change({ state: "done" });
  } catch (error) {
    change(error.name === "AbortError" ? { state: "stopped" } : { state: "failed", error });
  }
}

/** Put the last question again, in place of the reply that failed. */
export const askAgain = () => ask(takeLast());

/** Put the last question back into the composer, to be changed. */
export function editLast() {
  draft.value = takeLast();
  document.getElementById("question").focus();
}

function takeLast() {
  const { question } = turns.value.at(-1);
  turns.value = turns.value.slice(0, -1);
  return question;
}

/** End the reply that is being written; what came stays. */
export const stop = () => running?.abort();

/** Forget the conversation. */
export function startOver() {
  stop();
  closeSide();
  turns.value = [];
}
