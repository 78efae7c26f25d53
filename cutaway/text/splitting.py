"""How byte-level BPE cuts a text into words before it merges, by the name that a GGUF file or a rank file goes by."""

from tokenizers import Regex, pre_tokenizers

from cutaway.core.errors import TokenizerError, near_matches

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"

# The published patterns. GPT-2's is built into the library (`ByteLevel(use_regex=True)`).
PATTERNS = {
    "cl100k": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}",
    "qwen2": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}",
    "o200k": (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_CASED[0]}]*[{_CASED[1]}]+{_CONTRACTIONS}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?[{_CASED[0]}]+[{_CASED[1]}]*{_CONTRACTIONS}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
ALIASES = {
    "gpt-2": "gpt2",
    "default": "gpt2",
    "cl100k_base": "cl100k",
    "dbrx": "cl100k",
    "llama-bpe": "cl100k",
    "llama3": "cl100k",
    "llama-v3": "cl100k",
    "smaug-bpe": "cl100k",
    "o200k_base": "o200k",
    "gpt-4o": "o200k",
    "smollm": "digits",
    "starcoder": "digits",
    "refact": "digits",
    "command-r": "digits",
    "codeshell": "digits",
    "exaone": "digits",
    "minerva-7b": "digits",
    "deepseek-r1-qwen": "qwen2",
    "stablelm2": "qwen2",
    "megrez": "qwen2",
    "hunyuan": "qwen2",
}


def splitter(name: str) -> pre_tokenizers.PreTokenizer:
    """The pre-tokeniser of a name: `gpt2`, `digits` (GPT-2 with every digit on its own), a pattern or an alias."""
    kind = ALIASES.get(name, name)
    if kind == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if kind == "digits":
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    if kind in PATTERNS:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PATTERNS[kind]), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    known = {"gpt2", "digits", *PATTERNS, *ALIASES}
    raise TokenizerError("unknown way to split text", field="pre-tokeniser", value=name, hint=near_matches(name, known))
