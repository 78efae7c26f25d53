"""A run's folder: begun once, resumed by the same configuration, finished when its report is there."""

import json
from pathlib import Path
from typing import Any, Protocol

from cutaway.core.config import Config, dotted, load_config, save_config
from cutaway.core.errors import ConfigError
from cutaway.core.files import recover_folder, write_text

CONFIG, REPORT = "config.yaml", "report.json"
_WHERE = "loop.parallel."  # where a run is computed, not what


def begin_run(config: Config, out: Path) -> dict[str, Any] | None:
    """Make the folder, or check that what it holds is this very run; give the report when that run is done.

    A run that saved nothing yet has nothing to lose, and takes the new configuration.

    Raises:
        ConfigError: the folder holds a run with another configuration (the keys that differ are named), or something else.
    """
    recover_folder(out / "last")
    report = out / REPORT
    if (out / CONFIG).exists():
        if report.exists() or (out / "last").exists():
            _check_same(config, out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("is not empty and holds no run", field="out", value=str(out), hint="give a new folder")
    save_config(config, out / CONFIG)
    return json.loads(report.read_text(encoding="utf-8")) if report.exists() else None


class HasLength(Protocol):
    """A configuration of data that says how long a row is."""

    @property
    def seq_len(self) -> int: ...


def check_length(data: HasLength, model: Any) -> None:
    """Refuse rows that are longer than the model's context."""
    if data.seq_len > model.context:
        raise ConfigError(
            f"is longer than the model's context of {model.context}", field="data.seq_len", value=data.seq_len
        )


def _check_same(config: Config, out: Path) -> None:
    before = dotted(load_config(type(config), out / CONFIG).model_dump(mode="json"))
    now = dotted(config.model_dump(mode="json"))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and not key.startswith(_WHERE)]
    if keys:
        raise ConfigError(
            "holds a run with another configuration: "
            + "; ".join(f"{key}={before.get(key)}, now {now.get(key)}" for key in keys),
            field="out",
            value=str(out),
            hint="give the same configuration to resume it, or another out",
        )


def finish_run(out: Path, report: dict[str, Any]) -> None:
    """Write the report, which says that the run is done."""
    write_text(out / REPORT, json.dumps(report, indent=1, ensure_ascii=False))
