"""Configuration: frozen typed objects, read from a YAML file and dotted overrides.

    config = load_config(PretrainConfig, Path("tiny.yaml"), ["optim.lr=3e-4", "data.seq_len=512"])
    save_config(config, out / "config.yaml")

A key that does not exist is an error that names near matches; nothing is dropped silently. Defaults live in the fields
of the classes and nowhere else.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cutaway.core.errors import ConfigError, near_matches
from cutaway.core.files import write_text

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every configuration: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())


def load_config(cls: type[C], file: Path | None = None, overrides: Sequence[str] = ()) -> C:
    """Read `file` (YAML, optional), apply `overrides` (`dotted.key=value`, the value in YAML) in order, and check all.

    Raises:
        ConfigError: unreadable file, unknown key (with near matches), wrong type, or a combination that cannot be.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values = _read_yaml(file)
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not key:
            raise ConfigError("an override is key=value", field=override, hint="for example optim.lr=3e-4")
        _set(values, key.split("."), _scalar(text), key)
    return make_config(cls, values)


def make_config(cls: type[C], values: dict[str, Any]) -> C:
    """Build `cls` from a dictionary, turning pydantic's report into one `ConfigError`."""
    try:
        return cls.model_validate(values)
    except ValidationError as err:
        raise _explain(cls, err) from None


def dotted(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones, as overrides name them.

    >>> dotted({"a": 1, "b": {"c": 2}})
    {'a': 1, 'b.c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def as_override(key: str, value: Any) -> str:
    """The word that `load_config` reads this value from: text bare where it stays that text, and the rest as JSON.

    >>> as_override("out", "runs/a"), as_override("out", "2024"), as_override("loop.steps", None)
    ('out=runs/a', 'out="2024"', 'loop.steps=null')
    """
    bare = isinstance(value, str) and _scalar(value) == value
    return f"{key}={value if bare else json.dumps(value, ensure_ascii=False)}"


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration as YAML; `load_config` reads it back equal."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such file", field="config", value=str(file)) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise ConfigError(f"cannot be read as YAML: {err}", field="config", value=str(file)) from None
    if not isinstance(values or {}, dict):
        raise ConfigError("must hold a mapping of keys to values", field="config", value=str(file))
    return values or {}


def _scalar(text: str) -> Any:
    """YAML 1.1 reads `3e-4` as a string; people mean the number."""
    with suppress(ValueError):
        if "e" in text.lower():
            return float(text)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # a date that is none is the latter
        return text


def _set(values: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{part} is a value, not a group of keys", field=key)
    values[path[-1]] = value


def _explain(cls: type[BaseModel], err: ValidationError) -> ConfigError:
    problems = []
    for item in err.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            owner = _model_at(cls, item["loc"][:-1])
            hint = near_matches(str(item["loc"][-1]), owner.model_fields) if owner else None
            problems.append(ConfigError("unknown key", field=field, hint=hint))
        elif item["type"] == "missing":
            problems.append(ConfigError("is required", field=field))
        else:
            message = item["msg"].removeprefix("Value error, ")
            problems.append(ConfigError(message, field=field or None, value=item["input"] if field else None))
    if len(problems) == 1:
        return problems[0]
    return ConfigError(f"{len(problems)} problems: " + "; ".join(map(str, problems)))


def _model_at(cls: type[BaseModel], path: Sequence[Any]) -> type[BaseModel] | None:
    """The configuration class that holds the key at `path`, looking through Optional and Union."""
    for part in path:
        if part not in cls.model_fields:
            continue  # pydantic also puts the chosen member of a union on the path
        kind = cls.model_fields[part].annotation
        options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        models = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if len(models) != 1:
            return None
        cls = models[0]
    return cls
