"""The configuration as YAML: reading a file and `--set` overrides, messages, writing."""

import difflib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from data_pipeline.platform.errors import UserError
from srgan.config import Config, PhaseConfig


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration file.

    Args:
        path: The YAML file.
        overrides: `KEY=VALUE` strings: a dotted key and a YAML value, applied in order.

    Raises:
        UserError: If the file does not read, or a key is unknown, missing or has a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; pass a configuration file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; pass a configuration file") from error
    content = _parse(text, str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, see configs/demo.yaml")
    for override in overrides:
        _apply(content, override)
    return _validate(content, str(path))


def parse_config(text: str, where: str) -> Config:
    """Reads a configuration from YAML text; `where` names it in errors. Raises UserError."""
    return _validate(_parse(text, where), where)


def dump_config(config: Config) -> str:
    """The configuration with every default written out, as YAML that `parse_config` reads."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # it takes a bool
    text = io.StringIO()
    yaml.dump(config.model_dump(), text)
    return text.getvalue()


def _parse(text: str, where: str) -> Any:
    """Reads YAML 1.2: 1e-4 is a number, yes is a string, a key given twice is an error."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:  # ValueError: a date or a number that does not exist
        problem = str(error)
        if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
            what = " ".join(filter(None, (error.context, error.problem)))
            problem = f"line {mark.line + 1}, column {mark.column + 1}: {what}"
        raise UserError(f"{where}: is not YAML: {' '.join(problem.split())}") from error


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override}: expected KEY=VALUE, as in --set batch.global_batch=8")
    *parents, last = key.split(".")
    section: Any = content
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise UserError(f"--set {override}: {parent} is not a section")
    section[last] = _parse(value, f"--set {override}")


def _validate(content: Any, where: str) -> Config:
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UserError(f"{where}: unknown key {key}{_suggestion(key)}") from error
        if first["type"] == "missing":
            raise UserError(f"{where}: the key {key} is missing") from error
        message = first["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        if first["type"] == "bool_type":
            message += " (true or false)"
        raise UserError(f"{where}: {key}: {message}, got {first['input']!r}") from error


def _suggestion(key: str) -> str:
    known = _known_keys(Config)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += _known_keys(kind, f"{prefix}{name}.")
        elif PhaseConfig in get_args(kind):
            keys += _known_keys(PhaseConfig, f"{prefix}{name}.NAME.")
        else:
            keys.append(prefix + name)
    return keys
