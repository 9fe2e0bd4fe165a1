"""The driver: checks everything that can be checked, then runs the workers under Ray Train."""

import json
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_pipeline.imresize import SCALES
from data_pipeline.loading.sampling import steps_per_epoch
from data_pipeline.manifest import Manifest, require_manifest
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage, open_file, open_storage
from srgan.config import Config
from srgan.config_file import dump_config, parse_config
from srgan.config_identity import differing_keys
from srgan.metrics_log import read_metrics
from srgan.run_layout import (
    CONFIG_KEY,
    DATASET_KEY,
    GENERATORS,
    INITIAL_KEY,
    LPIPS_KEY,
    VGG_KEY,
    generator_key,
    phase_generator_key,
)
from srgan.training.checkpoint import Position, newest_position
from srgan.training.goodput import recorded_job
from srgan.training.job_log import copied_log
from srgan.training.lease import hold_lease
from srgan.training.phases import Phase, phase_of, plan_phases
from srgan.vgg_weights import provide_weights

if TYPE_CHECKING:
    from srgan.training.requests import TrainingEnd

_log = logging.getLogger(__name__)


def train(
    config: Config,
    data_uri: str,
    run_uri: str,
    *,
    workers: tuple[int, int] | None = None,
    gpus: int | None = None,
    rehearsal: bool = False,
) -> None:
    """Trains a run, or goes on with it.

    Args:
        config: The experiment.
        data_uri: DATA.
        run_uri: RUN.
        workers: The fewest and the most training workers; None as in `resources.plan`.
        gpus: GPUs of each worker, 0 for the CPU; None as in `resources.plan`.
        rehearsal: Whether this is a dry run, which ends a phase once its steps are measured.

    Raises:
        UserError: If the configuration does not fit DATA or the cluster, RUN was begun with
            another configuration or data set, or another training of it lives. RUN is unchanged
            then.
        JobFailedError: If the workers fail more often than the configuration allows, or in a way
            that trying again does not fix; the last checkpoint stays.
        KeyboardInterrupt: After SIGINT or SIGTERM, once a checkpoint is saved.
    """
    began = time.time()
    data, run = open_storage(data_uri), open_storage(run_uri)
    manifest = require_manifest(data)
    if is_finished(run, *check_run(config, data, run, manifest)):
        return
    # After the checks: Ray takes seconds to import.
    from data_pipeline.platform.cluster import ray_session
    from srgan.training.ray_workers import fit
    from srgan.training.resources import plan_now

    with hold_lease(run) as lease:
        # Again: another trainer may have ended since.
        phases, position = check_run(config, data, run, manifest)
        if is_finished(run, phases, position):
            return
        if position is None and run.list(GENERATORS):
            _log.warning("%s: holds no checkpoint yet: the run begins again at step 0", run.uri)
        if position is None and not read_metrics(run):
            for key in (VGG_KEY, LPIPS_KEY):
                run.delete(key)  # an earlier attempt may have used other weights
        with ray_session():
            scaling = plan_now(config, workers=workers, gpus=gpus)
            provide_weights(config, run)
            if config.initial_generator and not position:
                run.write(INITIAL_KEY, _read_initial(config.initial_generator))
            run.write(CONFIG_KEY, dump_config(config).encode())
            data_set = _data_set(data, manifest)
            run.write(DATASET_KEY, json.dumps(data_set, indent=1).encode())
            run.delete_partial()
            arguments = {
                "config": config,
                "data": data,
                "run": run,
                "lease": lease,
                "gpus": scaling.gpus,
                "rehearsal": rehearsal,
            }
            with copied_log(run, began), recorded_job(run, lease, began):
                fit(_train, arguments, scaling, failures=config.failures)


def _train(**arguments: Any) -> "TrainingEnd":
    """Runs in a worker: no other process needs TensorFlow."""
    from srgan.training.worker import train_worker

    return train_worker(**arguments)


def is_finished(run: Storage, phases: Sequence[Phase], position: Position | None) -> bool:
    """Whether all steps are done and the last epoch is ended. Says so in the log."""
    if position is None or position.step != phases[-1].stop or position.epoch:
        return False
    _log.info("%s: all %d epochs are done already", run.uri, sum(one.epochs for one in phases))
    return True


def check_run(
    config: Config, data: Storage, run: Storage, manifest: Manifest
) -> tuple[list[Phase], Position | None]:
    """Checks that the configuration fits DATA and what RUN was begun with.

    Returns:
        The phases, and where RUN is; None before its first checkpoint.

    Raises:
        UserError: If it does not.
    """
    _check_fit(config, manifest, data)
    phases = plan_phases(
        config.phases, steps_per_epoch(manifest.num_patches, config.batch.global_batch)
    )
    for phase in phases:
        warmup = phase.config.learning_rate.warmup_steps
        if warmup > phase.steps:
            raise UserError(
                f"phases.{phase.name}.learning_rate.warmup_steps {warmup}: the phase has only "
                f"{phase.steps} steps; lower it, or make the phase longer"
            )
    position = newest_position(run)
    if position or read_metrics(run):
        _check_same_run(run, config, _data_set(data, manifest))
    if position:
        _check_position(run, position, phases)
    else:
        _check_begins(run, phases[0])
    return phases, position


def _data_set(data: Storage, manifest: Manifest) -> dict[str, Any]:
    """What RUN notes of DATA. The sha256 alone tells whether it is the same."""
    return {
        "uri": data.uri,
        "manifest_sha256": manifest.sha256(),
        "scale": manifest.settings.scale,
        "kernel": manifest.settings.train_kernel,
    }


def _read_initial(uri: str) -> bytes:
    """The file's bytes. The driver reads it: workers may not see it. They check what it is."""
    storage, key = open_file(uri)
    try:
        return storage.read(key)
    except OSError as error:
        raise UserError(
            f"initial_generator {uri}: does not read: {error.strerror}; pass a generator's file, "
            "as RUN/generators/pretrain.keras"
        ) from error


def _check_fit(config: Config, manifest: Manifest, data: Storage) -> None:
    settings, batch = manifest.settings, config.batch
    if settings.scale not in SCALES:
        raise UserError(
            f"{data.uri}: has scale {settings.scale}, and the generator has only "
            f"{', '.join(map(str, SCALES))}; prepare the data set again with one of these"
        )
    if batch.hr_crop % settings.scale:
        raise UserError(
            f"batch.hr_crop {batch.hr_crop}: must be a multiple of the scale {settings.scale} of "
            f"{data.uri}; set it to {batch.hr_crop + -batch.hr_crop % settings.scale}"
        )
    if batch.hr_crop > settings.patch_size:
        raise UserError(
            f"batch.hr_crop {batch.hr_crop}: is larger than the patches of {data.uri} "
            f"({settings.patch_size}); lower it or prepare larger patches"
        )
    for needs, name in (
        (config.trains_discriminator, "the discriminator"),
        (config.needs_lpips, "losses.lpips"),
    ):
        if needs and batch.hr_crop < 16:
            raise UserError(f"batch.hr_crop {batch.hr_crop}: {name} needs 16 or more")
    if config.needs_lpips and config.lpips_weights is None:
        raise UserError(
            "losses.lpips: needs the weights of LPIPS's VGG16; pass a .npz file as lpips_weights, "
            "see docs/train.md"
        )
    if manifest.num_patches < batch.global_batch:
        raise UserError(
            f"batch.global_batch {batch.global_batch}: {data.uri} holds only "
            f"{manifest.num_patches} patches; lower it or prepare more images"
        )


def _check_same_run(run: Storage, config: Config, data_set: dict[str, Any]) -> None:
    if run.size(CONFIG_KEY) is not None:
        old = parse_config(run.read(CONFIG_KEY).decode(), f"{run.uri}/{CONFIG_KEY}")
        if differences := differing_keys(old, config):
            raise UserError(
                f"{run.uri}: was begun with another configuration ({'; '.join(differences)}); "
                "choose another --run"
            )
    if run.size(DATASET_KEY) is not None:
        known = json.loads(run.read(DATASET_KEY))
        if known["manifest_sha256"] != data_set["manifest_sha256"]:
            raise UserError(
                f"{run.uri}: was begun with the data set {known['uri']}, and {data_set['uri']} "
                "has another manifest; choose another --run"
            )


def _check_begins(run: Storage, first: Phase) -> None:
    """Refuses a RUN whose checkpoints are lost: it has generators and no checkpoint.

    The generator of the first epoch may be there: it is written before the first checkpoint, and
    a kill can come between them.
    """
    found = {item.key for item in run.list(GENERATORS)}
    made_first = set()
    if first.is_last:
        made_first = {generator_key(1)}
    elif first.epochs == 1:
        made_first = {phase_generator_key(first.name)}
    if lost := found - made_first:
        raise UserError(
            f"{run.uri}: holds generators ({min(lost)}) but no checkpoint, so the run cannot go "
            "on; put its checkpoints back, or choose another --run"
        )


def _check_position(run: Storage, position: Position, phases: Sequence[Phase]) -> None:
    """The lengths of phases may change, but only ahead of where the run is."""
    if position.step <= phases[-1].stop:
        phase = phase_of(phases, position.step)
        if (phase.name, phase.start) == (position.phase, position.phase_start):
            if position.epoch or position.step in (phase.stop, phase.border_before(position.step)):
                return
            raise UserError(
                f"{run.uri}: phase {phase.name} ended with step {position.step}, in the middle of "
                "an epoch, and cannot be made longer; choose another --run"
            )
    raise UserError(
        f"{run.uri}: is at step {position.step}, in phase {position.phase} that began with step "
        f"{position.phase_start}; the lengths of the configuration's phases put it elsewhere: "
        "change only what lies ahead"
    )
