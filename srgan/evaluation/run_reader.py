"""The RUN that an evaluation reads: its settings and the generators that it has so far."""

import json
from typing import Any, NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage, in_threads, open_storage
from srgan.config import Config, VggName, needed_extractors
from srgan.config_file import parse_config
from srgan.config_identity import fixed_settings
from srgan.evaluation.table import SRGAN, SRRESNET
from srgan.run_layout import (
    CONFIG_KEY,
    DATASET_KEY,
    GENERATORS,
    INITIAL_KEY,
    VGG_KEY,
    generator_epoch,
    generator_key,
    phase_generator_key,
)


class TrainingRun(NamedTuple):
    """A RUN, which may still be training.

    Attributes:
        storage: Where it is.
        config: Its configuration.
        data_uri: The data set that it is trained on.
        identity: sha256 of all settings that a run never changes. It tells runs apart and does not
            depend on where they lie.
        extractors: The VGG features that it has weights for.
        vgg_sha256: sha256 of these weights; "none" without weights.
    """

    storage: Storage
    config: Config
    data_uri: str
    identity: str
    extractors: tuple[VggName, ...]
    vgg_sha256: str


class GeneratorFile(NamedTuple):
    """A generator of a RUN.

    Attributes:
        name: The name of its scores and pictures: `srresnet` or `epoch-0025`.
        method: `srresnet` or `srgan`.
        epoch: Its epoch; None for `srresnet`.
        key: The key of its file in RUN.
        sha256: The file's sha256.
    """

    name: str
    method: str
    epoch: int | None
    key: str
    sha256: str


def open_run(uri: str) -> TrainingRun:
    """Opens a RUN.

    Raises:
        UserError: If there is no RUN, or its configuration is wrong.
    """
    run = open_storage(uri)
    try:
        config_text = run.read(CONFIG_KEY).decode()
        data_set: dict[str, Any] = json.loads(run.read(DATASET_KEY))
    except OSError as error:
        raise UserError(f"{run.uri}: lacks {CONFIG_KEY} or {DATASET_KEY}; pass a RUN") from error
    config = parse_config(config_text, f"{run.uri}/{CONFIG_KEY}")
    settings = json.dumps(fixed_settings(config)) + data_set["manifest_sha256"]
    names = tuple(needed_extractors(config))
    has_vgg = bool(names) and run.size(VGG_KEY) is not None
    return TrainingRun(
        storage=run,
        config=config,
        data_uri=data_set["uri"],
        identity=sha256_hex(settings.encode()),
        extractors=names if has_vgg else (),
        vgg_sha256=sha256_hex(run.read(VGG_KEY)) if has_vgg else "none",
    )


def find_generators(run: TrainingRun) -> list[GeneratorFile]:
    """All generators that RUN has so far: SRResNet, if there is one, and the last phase's epochs.

    SRResNet is the generator that the first adversarial phase began with.
    """
    keys = {stored.key for stored in run.storage.list(GENERATORS)}
    found: list[tuple[str, str, int | None, str]] = []
    before = INITIAL_KEY
    for name, phase in run.config.phases.items():
        if phase.losses.adversarial:
            if before in keys or (before == INITIAL_KEY and run.storage.size(before) is not None):
                found.append((SRRESNET, SRRESNET, None, before))
            break
        before = phase_generator_key(name)
    epochs = sorted(epoch for key in keys if (epoch := generator_epoch(key)) is not None)
    found += [(generator_name(epoch), SRGAN, epoch, generator_key(epoch)) for epoch in epochs]
    hashes = in_threads(lambda one: sha256_hex(run.storage.read(one[-1])), found)
    return [GeneratorFile(*one, sha256) for one, sha256 in zip(found, hashes, strict=True)]


def generator_name(epoch: int) -> str:
    """The name of the scores and pictures of an epoch's generator."""
    return f"epoch-{epoch:04}"


def has_generator(run: TrainingRun, known: GeneratorFile | None, name: str, sha256: str) -> bool:
    """Whether RUN has now the generator that has this name and sha256.

    Args:
        run: RUN.
        known: The generator of this name when RUN was read, if there was one.
        name: The generator's name.
        sha256: The sha256 of its file, which may have been written after RUN was read.
    """
    if known and known.sha256 == sha256:
        return True
    try:
        stored = run.storage.read(known.key if known else f"{GENERATORS}{name}.keras")
    except FileNotFoundError:
        return False
    return sha256_hex(stored) == sha256
