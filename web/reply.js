// A reply, from the request that asks for it to the report on one of its tokens: all that knows the shapes of docs/api.md.
import { post } from "./api.js";
import { grounded, model, sampling, showTokens } from "./preferences.js";
import { hasDocuments } from "./server.js";

/**
 * state: "streaming", "done", "stopped" or "failed" (then `error`). tokens: {text, bytes, start, probability}, if asked for.
 * The rest comes at the end, as the API's `cutaway`, except that starts and ends count the 16-bit units of a JavaScript string:
 * those of tokens and sentences in `text`, those of a sentence's evidence in the text of its passage.
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
    ...(hasDocuments.value && { documents: grounded.value }),
    ...(showTokens.value && { logprobs: true, inspect: true }),
  };
}

/** What one streamed event adds to a reply. */
export function read(answer, event) {
  const news = {};
  const [choice] = event.choices;
  if (choice?.delta.content) news.text = answer.text + choice.delta.content;
  if (choice?.logprobs) news.tokens = [...answer.tokens, ...placed(choice.logprobs.content, answer.tokens)];
  if (choice?.finish_reason) news.finish = choice.finish_reason;
  if (event.usage) news.usage = event.usage;
  if (event.cutaway) Object.assign(news, event.cutaway);
  if (news.sentences) news.sentences = inUnits(news);
  return news;
}

/** Sentences with spans in units; the API counts characters, of which some take two, and those of evidence in the whole source. */
function inUnits({ text, passages, sentences }) {
  const said = units(text);
  const held = new Map(passages.map(({ number, start, text }) => [number, { start, units: units(text) }]));
  return sentences.map((sentence) => ({
    ...sentence,
    start: said[sentence.start],
    end: said[sentence.end],
    evidence: sentence.evidence.map(({ passage, start, end }) => {
      const within = held.get(passage);
      return { passage, start: within.units[start - within.start], end: within.units[end - within.start] };
    }),
  }));
}

/** Where each character of a text begins, and where the last ends. */
function units(text) {
  const found = [0];
  for (const character of text) found.push(found.at(-1) + character.length);
  return found;
}

/** Tokens with their places in the text. It is decoded from the bytes of all, because a character may be split over tokens. */
function placed(added, before) {
  const bytes = before.flatMap((token) => token.bytes);
  return added.map((token) => {
    const start = new TextDecoder().decode(new Uint8Array(bytes)).length;
    bytes.push(...token.bytes);
    return { text: token.token, bytes: token.bytes, start, probability: Math.exp(token.logprob) };
  });
}

/** The report on token `index` of a reply; those before 0 are the prompt's. */
export const inspect = ({ ids, prompt_length, sampling }, index, signal) =>
  post("/v1/inspect", { model: model.value, ids, position: prompt_length + index, prompt_length, sampling }, signal);

/** The sentence that token `index` is part of, if it is known. */
export function sentenceOf(answer, index) {
  const { start: at, text } = answer.tokens[index];
  const letter = at + text.length - text.trimStart().length; // the space before a sentence belongs to its first token
  return answer.sentences.find(({ start, end }) => start <= letter && letter < end);
}
