// A reply, from the request that asks for it to the report on one of its tokens: all that knows the shapes of docs/api.md.
import { post } from "./api.js";
import { grounded, model, sampling, showTokens } from "./preferences.js";

/**
 * state: "streaming", "done", "stopped" or "failed" (then `error`). Spans are characters of `text`.
 * tokens: {text, probability}, only when they were asked for. passages: {number, source, heading, page, text, start, end, score}.
 */
export const EMPTY = { state: "streaming", text: "", tokens: [], passages: [], sentences: [], answered: null };

/** The request for a reply to `question` after `turns`. What the user did not set is left out: the server has the defaults. */
export function requestBody(turns, question) {
  const { system, ...settings } = sampling.value;
  const said = turns
    .filter(({ answer }) => answer.value.text)
    .flatMap(({ question, answer }) => [
      { role: "user", content: question },
      { role: "assistant", content: answer.value.text },
    ]);
  return {
    model: model.value,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...said, { role: "user", content: question }],
    stream: true,
    stream_options: { include_usage: true },
    ...settings,
    documents: grounded.value,
    ...(showTokens.value ? { logprobs: true, top_logprobs: 1, inspect: true } : {}),
  };
}

/** What one streamed event adds to a reply. */
export function read(answer, event) {
  const news = {};
  const [choice] = event.choices;
  if (choice?.delta.content) news.text = answer.text + choice.delta.content;
  if (choice?.logprobs) {
    const added = choice.logprobs.content.map(({ token, logprob }) => ({ text: token, probability: Math.exp(logprob) }));
    news.tokens = [...answer.tokens, ...added];
  }
  if (choice?.finish_reason) news.finish = choice.finish_reason;
  if (event.usage) news.usage = event.usage;
  if (event.cutaway) Object.assign(news, event.cutaway);
  return news;
}

/** The report on token `index` of a reply (docs/api.md). */
export const inspect = (answer, index, signal) =>
  post("/v1/inspect", { model: answer.model, ids: answer.ids, position: answer.prompt_length + index }, signal);

/** The sentence that token `index` is part of, if it is known. */
export function sentenceOf(answer, index) {
  const at = answer.tokens.slice(0, index).reduce((length, token) => length + token.text.length, 0);
  return answer.sentences.find(({ start, end }) => start <= at && at < end);
}

/** The passages that stand behind token `index`: those that support its sentence. */
export function behind(answer, index) {
  const numbers = sentenceOf(answer, index)?.passages ?? [];
  return answer.passages.filter(({ number }) => numbers.includes(number));
}
