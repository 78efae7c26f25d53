"""What a checkpoint's makers say beside its weights: how it writes, and how it wants its images and sounds.

Loading keeps it with the model (`model.beside`, values by the file that holds them) and saving writes it again, so that a folder
that was loaded and saved transcribes as before. The names of the files have their home in whoever reads them.
"""

from pathlib import Path
from typing import Any

from cutaway.models.target_rules import GENERATION, TargetRules, read_values

Beside = dict[str, dict[str, Any]]
_FILES = (GENERATION, "preprocessor_config.json")


def read_beside(folder: Path, config: dict[str, Any]) -> Beside:
    """The values of each file that is there; rules that an older folder states in its `config.json` join the newer ones.

    Raises:
        CheckpointError: a file holds no JSON object.
    """
    found = {name: read_values(folder / name) for name in _FILES}
    older = {name: config[name] for name in TargetRules.model_fields if config.get(name) is not None}
    found[GENERATION] = {**older, **found[GENERATION]}
    return {name: values for name, values in found.items() if values}
