"""The settings by which a run is recognised, and how two configurations differ in them."""

from typing import Any

from data_pipeline.platform.errors import differences
from srgan.config import Config

# Fields of later versions, left out at these values. `prelu_slope` only sets initial weights: older
# runs began at 0.
_LATER: dict[str, dict[str, Any]] = {
    "generator": {"prelu_slope": 0.25, "direct_upsampling": False, "global_skip": False},
    "discriminator": {"patch": False, "spectral_norm": False},
}


def fixed_settings(config: Config) -> dict[str, Any]:
    """The settings that a run keeps from its beginning to its end.

    A run may change how it is compiled, how often it saves, which failures it goes on after, what
    it shows, and the lengths of its phases. Its checkpoints tell whether a phase is over.

    Evaluation hashes the JSON of this to recognise a run: a field that is added to it, renamed or
    moved makes other runs of the old ones. So a field of a later version is left out where it has
    its default.
    """
    content = config.model_dump(
        exclude={
            "tf32",
            "xla",
            "steps_per_call",
            "checkpoints",
            "failures",
            "validation_images",
        }
    )
    for part, names in _LATER.items():
        for name, default in names.items():
            if content[part][name] == default:
                del content[part][name]
    if config.lpips_weights is None:
        del content["lpips_weights"]
    for phase in content["phases"].values():
        del phase["epochs"], phase["steps"]
        if not phase["learning_rate"]["warmup_steps"]:
            del phase["learning_rate"]["warmup_steps"]
        if not phase["losses"]["lpips"]:
            del phase["losses"]["lpips"]
    return content


def differing_keys(old: Config, new: Config) -> list[str]:
    """One `key: old, now new` for every dotted key of `fixed_settings` that differs."""
    keys = {key for config in (old, new) for key in flatten(fixed_settings(config))}
    settings = [flatten(config.model_dump()) for config in (old, new)]
    return differences(*({key: one.get(key) for key in keys} for one in settings))


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dictionary by dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
