"""How byte-level BPE cuts a text into words before it merges, by the name that a GGUF file or a rank file goes by."""

from tokenizers import Regex, pre_tokenizers

from cutaway.core.errors import TokenizerError, near_matches

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_DIGIT = r"\p{N}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# DeepSeek LLM's letters with a case: those of an older Unicode, without some scripts.
_CASED = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ"
    "Ὗ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗ"
    "Ａ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)

# The published patterns. Each cuts, one after another, what those before it left whole. OpenAI's cl100k_base keeps white space at
# the end of a text together; what Llama 3 and others made of it (cl100k) does not.
PATTERNS = {
    "gpt2": (_GPT2,),
    "digits": (_DIGIT, _GPT2),
    "cl100k": (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}",),
    "cl100k_base": (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}".replace(r"|\s*", r"|\s+\z|\s*"),
    ),
    "qwen2": (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}",),
    "qwen35": (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "o200k": (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTIONS}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTIONS}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "tekken": (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "deepseek-llm": (
        r"[\r\n]",
        rf"\s?[{_CASED}]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        r"[一-龥ࠀ-一가-\x{d7ff}]+",
        _DIGIT,
    ),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-\x{d7ff}]+", _DIGIT),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "falcon": (r"[\p{P}$+<=>^~|`]+", _GPT2, r"[0-9][0-9][0-9]"),
    "viking": (r" ?[^(\s|.,!?…。，、।۔،)]+", _DIGIT),
}
_NAMES = {
    # llama.cpp cuts what calls itself "default" (files older than the names) further, and warns that it degrades quality.
    "gpt2": "default gpt-2 phi-2 mpt olmo jais trillion exaone4 gigachat mellum modern-bert roberta-bpe granite-docling",
    "digits": "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
    "cl100k": "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 dbrx smaug-bpe glm4 chatglm-bpe",
    "qwen2": "deepseek-r1-qwen stablelm2 megrez hunyuan solar-open kormo grok-2",
    "o200k": "o200k_base gpt-4o llama4 kanana2 minimax-m2",
    "deepseek-v3": "hunyuan-dense joyai-llm",
}
ALIASES = {alias: kind for kind, names in _NAMES.items() for alias in names.split()}


def splitter(name: str, field: str = "pre-tokeniser") -> pre_tokenizers.PreTokenizer:
    """The pre-tokeniser of a name: it cuts a text and writes every byte as a character.

    Args:
        name: a pattern's, or an alias.
        field: what the user would call the name.

    Raises:
        TokenizerError: nobody goes by that name; names like it are told.
    """
    kind = ALIASES.get(name, name)
    if kind not in PATTERNS:
        hint = near_matches(name, {*PATTERNS, *ALIASES})
        raise TokenizerError("unknown way to split text", field=field, value=name, hint=hint)
    cuts, built_in = PATTERNS[kind], PATTERNS[kind][-1] == _GPT2
    steps = [_cut(pattern) for pattern in (cuts[:-1] if built_in else cuts)]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=built_in))
    return pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]


def _cut(pattern: str) -> pre_tokenizers.PreTokenizer:
    """In the library's own words where it has them (as above for GPT-2's pattern): fast encoders know those."""
    if pattern == _DIGIT:
        return pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")
