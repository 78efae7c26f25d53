"""The tokeniser of the packaged model, as we read it and as transformers does."""

import pytest


@pytest.fixture(scope="session")
def smollm2_tokenizers(smollm2):
    """`(ours, theirs)`; transformers takes some seconds, so it reads the file once."""
    from transformers import AutoTokenizer

    from cutaway.models.gguf_file import open_gguf
    from cutaway.text.gguf import tokenizer_from_gguf

    ours = tokenizer_from_gguf(open_gguf(smollm2).metadata)
    return ours, AutoTokenizer.from_pretrained(str(smollm2.parent), gguf_file=smollm2.name)
