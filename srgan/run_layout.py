"""The keys of everything in a RUN."""

import re
import time
from collections.abc import Iterable

CONFIG_KEY = "config.yaml"
DATASET_KEY = "dataset.json"
METRICS_KEY = "metrics.jsonl"
GOODPUT_KEY = "goodput.json"
CHECKPOINTS = "checkpoints"
LEASES = "lease/"
CHECKPOINT_META = "checkpoint.json"
GENERATORS = "generators/"
SAMPLES = "samples/"
VGG_KEY = "vgg19.npz"
LPIPS_KEY = "lpips_vgg16.npz"
INITIAL_KEY = "initial.keras"
BEST_KEY = "best.json"


def generator_key(epoch: int) -> str:
    """Key of the generator after an epoch of the run's last phase."""
    return f"{GENERATORS}epoch-{epoch:04}.keras"


def phase_generator_key(phase: str) -> str:
    """Key of the generator at the end of an earlier phase."""
    return f"{GENERATORS}{phase}.keras"


def generator_epochs(keys: Iterable[str]) -> list[int]:
    """The epochs of the last phase that have a generator among these keys, ascending."""
    matches = (re.fullmatch(rf"{GENERATORS}epoch-(\d{{4,}})\.keras", key) for key in keys)
    return sorted(int(match[1]) for match in matches if match)


def tensorboard_key(step: int, *, validation: bool = False) -> str:
    """Key of the event file of the epoch that ends after `step` steps of the run.

    Validation has a folder of its own: its files come later, and TensorBoard never looks again at
    names before those that it has read in a folder.
    """
    folder = "tensorboard/validation" if validation else "tensorboard"
    return f"{folder}/events.out.tfevents.{step:012}"


def samples_key(epoch: int, phase: str | None = None) -> str:
    """Key of an epoch's sample picture; `phase` is None for the run's last phase."""
    return f"{SAMPLES}{phase or 'epoch'}-{epoch:04}.png"


def log_key(began: float) -> str:
    """Key of the log of the job that began so many seconds after 1970; by UTC."""
    return time.strftime("logs/%Y-%m-%dT%H-%M-%SZ.log", time.gmtime(began))
