// Markdown of a model's reply → a safe DOM fragment with its citations and its unsupported sentences marked.
import { Marked } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";

// Two private-use characters bracket a sentence while Markdown is parsed; they are text to every other syntax.
const OPEN = "\uE000";
const CLOSE = "\uE001";
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
 * @param sentences {start, end, passages, supported} in order, spans in characters of `text`: a supported one is followed by
 *                  the numbers of its passages, one without support is marked.
 * @param cited     the numbers that may be cited: [n] becomes a link for these and stays as it is for others.
 */
export function rendered(text, sentences = [], cited = []) {
  const fragment = DOMPurify.sanitize(marked.parse(attributed(text, sentences)), SAFE);
  markSentences(fragment);
  linkCitations(fragment, new Set(cited));
  return fragment;
}

function attributed(text, sentences) {
  let out = "";
  let at = 0;
  for (const { start, end, passages, supported } of sentences) {
    const sentence = text.slice(start, end);
    const skip = sentence.match(BLOCK_SYNTAX)[0].length;
    const body = sentence.slice(skip).trimEnd();
    const marks = passages.map((number) => `[${number}]`).filter((mark) => !body.includes(mark)).join("");
    out += text.slice(at, start + skip) + (supported ? `${body}\u00a0${marks}` : OPEN + body + CLOSE);
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

function linkCitations(fragment, cited) {
  for (const node of textNodes(fragment)) {
    if (node.parentElement?.closest("code, a")) continue;
    const pieces = node.data.split(/(\[\d+\])/).filter(Boolean).map((part) => {
      const number = Number(part.match(/^\[(\d+)\]$/)?.[1]);
      if (!cited.has(number)) return part;
      const link = element("button", String(number), { className: "citation", type: "button" });
      link.dataset.citation = number;
      return link;
    });
    node.replaceWith(...pieces);
  }
}

function textNodes(fragment) {
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) found.push(walker.currentNode);
  return found;
}

function element(tag, text, properties) {
  return Object.assign(document.createElement(tag), { textContent: text, ...properties });
}
