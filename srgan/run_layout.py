"""Where things lie in a RUN."""

import re

CONFIG_KEY = "config.yaml"
DATASET_KEY = "dataset.json"
METRICS_KEY = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
CHECKPOINT_META = "checkpoint.json"
GENERATORS = "generators/"


def generator_key(epoch: int) -> str:
    """Key of an epoch's generator."""
    return f"{GENERATORS}epoch-{epoch:04}.keras"


def generator_epoch(key: str) -> int | None:
    """The epoch of a generator's key; None for any other key."""
    match = re.fullmatch(rf"{GENERATORS}epoch-(\d{{4,}})\.keras", key)
    return int(match[1]) if match else None


def samples_key(epoch: int) -> str:
    """Key of an epoch's sample picture."""
    return f"samples/epoch-{epoch:04}.png"
