"""Token ids that a configuration states must be of its vocabulary."""

from typing import Any


def check_token_ids(config: Any, *names: str) -> None:
    """Look at the fields of these names; for validators of configurations.

    Raises:
        ValueError: one is none of `vocab_size` tokens; which.
    """
    for name in names:
        if not 0 <= getattr(config, name) < config.vocab_size:
            raise ValueError(f"{name} {getattr(config, name)} is outside the vocabulary of {config.vocab_size}")
