// The conversation: its turns, and the one request that may be running.
import { stream } from "./api.js";
import { computed, signal } from "./html.js";
import { closeSide } from "./opened.js";
import { grounded, model, sampling, showTokens } from "./preferences.js";

/**
 * A turn: {question, answer}, where answer is a signal of
 *   {state: "streaming" | "done" | "stopped" | "failed", text, tokens, sources, sentences, covered, error, usage, seconds}.
 */
export const turns = signal([]);

export const streaming = computed(() => turns.value.at(-1)?.answer.value.state === "streaming");

let running = null; // the AbortController of the request

export async function ask(question) {
  const body = requestBody(question);
  const answer = signal({ state: "streaming", text: "", tokens: [], sources: [], sentences: [], covered: null });
  turns.value = [...turns.value, { question, answer }];
  running = new AbortController();
  const started = performance.now();
  const change = (news) => (answer.value = { ...answer.value, ...news });
  try {
    for await (const event of stream("/v1/chat/completions", body, running.signal)) change(read(event, answer.value));
    change({ state: "done", seconds: (performance.now() - started) / 1000 });
  } catch (error) {
    change(error.name === "AbortError" ? { state: "stopped" } : { state: "failed", error });
  }
}

export const stop = () => running?.abort();

export function startOver() {
  stop();
  closeSide();
  turns.value = [];
}
