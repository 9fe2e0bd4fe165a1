"""The RUN that an evaluation reads: its identity and the generators it has so far."""

import json
from typing import Any, NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage, in_threads, open_storage
from srgan.config import Config, VggName, fixed_settings, needed_extractors
from srgan.config_file import parse_config
from srgan.evaluation.score_files import ScoreSet, generator_name
from srgan.evaluation.score_task import GeneratorFile
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


class SourceRun(NamedTuple):
    """A RUN.

    Attributes:
        storage: Where it is.
        config: Its configuration.
        config_text: The same as YAML.
        data_uri: The data set that it is trained on.
        identity: sha256 over what the run never changes: tells RUNs apart, wherever they lie.
        extractors: The VGG features that it has weights for.
        vgg: sha256 of these weights; "none" without.
    """

    storage: Storage
    config: Config
    config_text: str
    data_uri: str
    identity: str
    extractors: tuple[VggName, ...]
    vgg: str


def open_run(uri: str) -> SourceRun:
    """Opens a RUN, which may still be training.

    Raises:
        UserError: If it is none.
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
    return SourceRun(
        storage=run,
        config=config,
        config_text=config_text,
        data_uri=data_set["uri"],
        identity=sha256_hex(settings.encode()),
        extractors=names if has_vgg else (),
        vgg=sha256_hex(run.read(VGG_KEY)) if has_vgg else "none",
    )


def find_generators(run: SourceRun) -> list[GeneratorFile]:
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


def is_current(run: SourceRun, known: GeneratorFile | None, scored: ScoreSet) -> bool:
    """Whether scores are of the generator that RUN has now.

    Args:
        run: RUN.
        known: The generator of this name as it was read before, if it was there.
        scored: Its scores, which another evaluation may have made since.
    """
    if known and known.sha256 == scored.generator:
        return True
    key = known.key if known else f"{GENERATORS}{scored.name}.keras"
    try:
        return sha256_hex(run.storage.read(key)) == scored.generator
    except FileNotFoundError:
        return False
