// Markdown of a model's reply → a safe DOM fragment with its citations and its unsupported sentences marked.
import { Marked } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";

// Private-use characters bracket a sentence, or "passage,sentence" of a citation, while Markdown is parsed; they are text to
// every other syntax.
const OPEN = "\uE000";
const CLOSE = "\uE001";
const CITE = "\uE002";
const BLOCK_SYNTAX = /^(?:\s|[>#*+-]|\d+[.)]\s)*/;

const ESCAPED = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const escaped = ({ text }) => text.replace(/[&<>]/g, (character) => ESCAPED[character]);

// HTML that a model writes is shown as it was written.
const marked = new Marked({ gfm: true, breaks: true, renderer: { html: escaped } });
// What a model writes may name any address: no pictures (they would be fetched unasked) and no controls.
const SAFE = { FORBID_TAGS: ["img", "picture", "video", "audio", "style", "form", "input", "button"], RETURN_DOM_FRAGMENT: true };

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.target = "_blank";
    node.rel = "noopener noreferrer";
  }
});

/**
 * @param text      Markdown.
 * @param sentences {start, end, passages, supported} in order, spans in units of `text`: each is followed by the numbers of its
 *                  passages, one without support is marked. A citation is a button with data-citation, the passage's
 *                  number, and data-sentence, which of `sentences` it follows.
 */
export function rendered(text, sentences = []) {
  const fragment = DOMPurify.sanitize(marked.parse(attributed(text, sentences)), SAFE);
  markSentences(fragment);
  linkCitations(fragment, sentences);
  return fragment;
}

function attributed(text, sentences) {
  let out = "";
  let at = 0;
  for (const [number, { start, end, passages, supported }] of sentences.entries()) {
    const sentence = text.slice(start, end);
    const skip = sentence.match(BLOCK_SYNTAX)[0].length;
    const body = sentence.slice(skip).trimEnd();
    const marks = passages.map((passage) => `${CITE}${passage},${number}${CITE}`).join("");
    out += text.slice(at, start + skip) + (supported ? body : OPEN + body + CLOSE) + (marks && `\u00a0${marks}`);
    out += sentence.slice(skip + body.length);
    at = end;
  }
  return out + text.slice(at);
}

function markSentences(fragment) {
  let inside = false;
  for (const node of textNodes(fragment)) {
    const parts = node.data.split(/([\uE000\uE001])/);
    if (parts.length === 1 && !inside) continue;
    const pieces = [];
    for (const part of parts) {
      if (part === OPEN || part === CLOSE) inside = part === OPEN;
      else if (part) pieces.push(inside ? element("mark", part, { className: "unsupported" }) : part);
    }
    node.replaceWith(...pieces);
  }
}

function linkCitations(fragment, sentences) {
  for (const node of textNodes(fragment)) {
    const pieces = node.data.split(/(\uE002\d+,\d+\uE002)/);
    if (pieces.length > 1) node.replaceWith(...pieces.map((part) => (part.startsWith(CITE) ? citation(part, sentences) : part)));
  }
}

function citation(mark, sentences) {
  const [passage, sentence] = mark.slice(1, -1).split(",");
  const link = element("button", cited(passage, sentences[sentence]), { className: "citation", type: "button" });
  Object.assign(link.dataset, { citation: passage, sentence });
  return link;
}

/** The number of a passage as it follows a sentence: with a question mark if it is only related to it. */
export const cited = (number, { supported }) => (supported ? `${number}` : `${number}?`);

function textNodes(fragment) {
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) found.push(walker.currentNode);
  return found;
}

function element(tag, text, properties) {
  return Object.assign(document.createElement(tag), { textContent: text, ...properties });
}
