"""The invariants that `cutaway doctor` examines, on the user's own model and data, with the product's own parts."""

from collections.abc import Callable, Iterator
from pathlib import Path

from cutaway.core.errors import CutawayError
from cutaway.evaluate import data_invariants, serving_invariants, training_invariants
from cutaway.evaluate.check import Check
from cutaway.evaluate.subject import Subject, open_subject
from cutaway.models.decoder import check_decoder
from cutaway.models.load import Loaded

INVARIANTS: tuple[Callable[[Subject], Check], ...] = (
    data_invariants.prompts,
    data_invariants.supervision,
    data_invariants.ends,
    data_invariants.added_tokens,
    training_invariants.micro_batches,
    training_invariants.packing,
    training_invariants.resuming,
    training_invariants.merging,
    serving_invariants.padding,
    serving_invariants.batch_size,
    serving_invariants.caching,
    serving_invariants.streaming,
)


def examine(loaded: Loaded, data: Path | None = None) -> Iterator[Check]:
    """Run every check, one after the other; a check that cannot be made does not hold.

    Args:
        loaded: the model, in float32; it is as before afterwards.
        data: any file that training reads; by default a few records that are built in.

    Raises:
        ConfigError: the model is no decoder. DataError: the data cannot be read at all.
    """
    check_decoder(loaded.model)
    with open_subject(loaded, data) as subject:
        for invariant in INVARIANTS:
            try:
                yield invariant(subject)
            except CutawayError as err:
                yield Check(invariant.__name__.replace("_", " "), False, {}, 0.0, str(err))
