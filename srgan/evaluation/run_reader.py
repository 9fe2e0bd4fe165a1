"""The RUN that an evaluation reads: its settings and the generators that it has so far."""

import json
import logging
from typing import Any, NamedTuple

from data_pipeline.imresize import SCALES, Kernel
from data_pipeline.manifest import read_manifest
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage, in_threads, open_storage
from srgan.config import Config, VggName, needed_extractors
from srgan.config_file import parse_config
from srgan.config_identity import fixed_settings
from srgan.evaluation.table import SRGAN, SRRESNET
from srgan.generator_scale import stored_scale
from srgan.run_layout import (
    CONFIG_KEY,
    DATASET_KEY,
    GENERATORS,
    INITIAL_KEY,
    VGG_KEY,
    generator_epochs,
    generator_key,
    phase_generator_key,
)

_log = logging.getLogger(__name__)


class TrainingRun(NamedTuple):
    """A RUN, which may still be training.

    Attributes:
        storage: Where it is.
        config: Its configuration.
        data_uri: The data set that it is trained on.
        scale: HR side over LR side there; None if nothing tells it.
        kernel: The kernel that made its LR there; None if nothing tells it, or LR files were given.
        identity: sha256 of all settings that a run never changes. It tells runs apart and does not
            depend on where they lie.
        extractors: The VGG features that it has weights for.
        vgg_sha256: sha256 of these weights; "none" without weights.
    """

    storage: Storage
    config: Config
    data_uri: str
    scale: int | None
    kernel: Kernel | None
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
        UserError: If there is no RUN, its configuration is wrong, or its scale is not supported.
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
    scale, kernel = _scale_and_kernel(run, data_set)
    if scale not in (None, *SCALES):
        raise UserError(
            f"{run.uri}: is a run of x{scale}; this version has generators only of "
            f"x{', x'.join(map(str, SCALES))}; use the version that made it"
        )
    return TrainingRun(
        storage=run,
        config=config,
        data_uri=data_set["uri"],
        scale=scale,
        kernel=kernel,
        identity=sha256_hex(settings.encode()),
        extractors=names if has_vgg else (),
        vgg_sha256=sha256_hex(run.read(VGG_KEY)) if has_vgg else "none",
    )


def _scale_and_kernel(run: Storage, data_set: dict[str, Any]) -> tuple[int | None, Kernel | None]:
    """Those that RUN notes. A run of an older version notes none.

    Then its data set tells them, if it is there and is still the same. Without it a generator
    tells the scale, and nothing tells the kernel.
    """
    if "scale" in data_set:
        return data_set["scale"], data_set["kernel"]
    try:
        manifest = read_manifest(open_storage(data_set["uri"]))
    except (UserError, JobFailedError, OSError) as error:
        _log.info("%s: does not read: %s", data_set["uri"], error)
        manifest = None
    if manifest and manifest.sha256() == data_set["manifest_sha256"]:
        return manifest.settings.scale, manifest.settings.train_kernel
    files = (run.read(item.key) for item in run.list(GENERATORS))
    return next(filter(None, map(stored_scale, files)), None), None


def folder_scale_and_kernel(
    run: TrainingRun | None, scale: int | None, kernel: Kernel | None
) -> tuple[int, Kernel]:
    """The scale and the kernel by which a folder of images is scored: the run's own.

    Args:
        run: RUN; None for the baselines alone, whose defaults are 4 and `matlab`.
        scale: What the user asks for, if anything.
        kernel: Likewise. It may differ from the run's.

    Raises:
        UserError: If the user asks for another scale than the run's, or nothing tells it.
    """
    if run is None:
        return scale or 4, kernel or "matlab"
    if scale and run.scale and scale != run.scale:
        raise UserError(
            f"--scale {scale}: {run.storage.uri} is a run of x{run.scale}; leave --scale out"
        )
    if not (known := run.scale or scale):
        raise UserError(
            f"{run.storage.uri}: has no generator yet, and its data set {run.data_uri} is gone or "
            "another one now, so its scale is not known; pass --scale"
        )
    if not (kernel or run.kernel):
        _log.warning(
            "%s: the kernel of its LR is not known, since its data set %s is gone, is another one "
            "now, or was given LR files; matlab is used; --kernel chooses another",
            run.storage.uri,
            run.data_uri,
        )
    return known, kernel or run.kernel or "matlab"


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
    found += [
        (generator_name(epoch), SRGAN, epoch, generator_key(epoch))
        for epoch in generator_epochs(keys)
    ]
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
