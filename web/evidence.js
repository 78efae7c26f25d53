// Which sentences of a passage say what a reply says. The server tells which passage supports a sentence, not where in it.

const LEAST_GAIN = 1 / 3; // of a claim's words, that a further sentence of the passage must add

const sentenceBreaks = new Intl.Segmenter(undefined, { granularity: "sentence" });
const wordBreaks = new Intl.Segmenter(undefined, { granularity: "word" });

/**
 * The sentences of `text` that hold most words of each claim: the one with most, then those that add many of the rest.
 * @returns {start, end} in characters of `text`, in order.
 */
export function evidence(text, claims) {
  const sentences = [...sentenceBreaks.segment(text)].map(({ segment, index }) => ({
    start: index,
    end: index + segment.trimEnd().length,
    words: words(segment),
  }));
  const found = new Set(claims.flatMap((claim) => covering(words(claim), sentences)));
  return sentences.filter((sentence) => found.has(sentence));
}

function covering(claim, sentences) {
  const found = [];
  let missing = claim;
  for (;;) {
    const gains = sentences.map((sentence) => missing.intersection(sentence.words).size);
    const most = Math.max(0, ...gains);
    if (most === 0 || (found.length && most < LEAST_GAIN * claim.size)) return found;
    const best = sentences[gains.indexOf(most)];
    found.push(best);
    missing = missing.difference(best.words);
  }
}

const words = (text) =>
  new Set([...wordBreaks.segment(text)].filter(({ isWordLike }) => isWordLike).map(({ segment }) => segment.toLowerCase()));

/** A passage as flowing text: line ends that only break a long line of the source become spaces, none between Han characters. */
export function flowing(text) {
  return text.replace(WRAP, (_, at) => (HAN.test(text[at - 1]) && HAN.test(text[at + 1]) ? "" : " "));
}

const WRAP = /(?<=[^\n]{55})\n(?=[\p{L}\p{N}(“"'`])/gu;
const HAN = /[\p{Script=Han}\u3000-\u303F\uFF00-\uFFEF]/u;
