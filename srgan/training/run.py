"""The driver: checks everything that can be checked, then runs the workers under Ray Train."""

import json
import logging
from typing import Any

import ray
from ray.train import CheckpointConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.tensorflow import TensorflowTrainer

from data_pipeline.cluster import ray_session
from data_pipeline.errors import JobFailedError, UserError
from data_pipeline.manifest import Manifest, require_manifest
from data_pipeline.sampling import steps_per_epoch
from data_pipeline.storage import Storage, open_storage
from srgan.config import (
    Config,
    differing_keys,
    dump_config,
    needed_extractors,
    parse_config,
)
from srgan.run_layout import CHECKPOINT_META, CHECKPOINTS, CONFIG_KEY, DATASET_KEY, VGG_KEY
from srgan.training.metrics_log import read_metrics
from srgan.training.phases import plan_phases
from srgan.vgg_weights import provide_vgg_weights

_CHECKPOINTS_KEPT = 2

_log = logging.getLogger(__name__)


def train(config: Config, data_uri: str, run_uri: str, *, gpus: int | None = None) -> None:
    """Trains a run, or goes on with it.

    Args:
        config: The experiment.
        data_uri: DATA.
        run_uri: RUN.
        gpus: GPUs of the worker; 0 for the CPU, None for all of the cluster's largest node.

    Raises:
        UserError: If the configuration does not fit DATA or the cluster, or RUN was begun with
            another configuration or data set. RUN is unchanged then.
        JobFailedError: If a worker fails; the last checkpoint stays.
        KeyboardInterrupt: After SIGINT; the last checkpoint stays.
    """
    data, run = open_storage(data_uri), open_storage(run_uri)
    manifest = require_manifest(data)
    _check_fit(config, manifest, data)
    identity = {"uri": data.uri, "manifest_sha256": manifest.sha256()}
    _check_same_run(run, config, identity)
    phases = plan_phases(
        config.phases, steps_per_epoch(manifest.num_patches, config.batch.global_batch)
    )
    if _is_finished(run, phases[-1].stop):
        epochs = sum(phase.epochs for phase in phases)
        _log.info("%s: all %d epochs are done already", run.uri, epochs)
        return
    with ray_session():
        scaling = _scaling(gpus, config.batch.global_batch)
        if not read_metrics(run):
            run.delete(VGG_KEY)  # maybe of an attempt with other weights
        provide_vgg_weights(config.vgg_weights, needed_extractors(config), run)
        run.write(CONFIG_KEY, dump_config(config).encode())
        run.write(DATASET_KEY, json.dumps(identity, indent=1).encode())
        run.delete_partial()
        trainer = TensorflowTrainer(
            _worker,
            train_loop_config={
                "config_text": dump_config(config),
                "data_uri": data.uri,
                "run_uri": run.uri,
                "gpus": int(scaling.resources_per_worker["GPU"]),
            },
            scaling_config=scaling,
            run_config=RunConfig(
                name=CHECKPOINTS,
                storage_path=run.uri,
                checkpoint_config=CheckpointConfig(num_to_keep=_CHECKPOINTS_KEPT),
            ),
        )
        try:
            trainer.fit()
        except SystemExit as stop:  # how Ray Train ends after SIGINT
            raise KeyboardInterrupt from stop
        except TrainingFailedError as error:
            raise _reason(error) from error


def _reason(error: TrainingFailedError) -> Exception:
    """What the first worker that failed said, in one line; the user's mistake as a UserError."""
    failures = getattr(error, "worker_failures", {})
    first = failures[min(failures)] if failures else error
    mistake = getattr(first, "_base_exc", first)
    if isinstance(mistake, UserError):
        return mistake
    return JobFailedError(f"training failed: {str(first).strip().splitlines()[-1]}")


def _worker(arguments: dict[str, Any]) -> None:
    # Imports TensorFlow, which only workers need: the driver may sit on a small head node.
    from srgan.training.loop import train_worker

    train_worker(**arguments)


def _check_fit(config: Config, manifest: Manifest, data: Storage) -> None:
    settings, batch = manifest.settings, config.batch
    if settings.scale & (settings.scale - 1):
        raise UserError(
            f"{data.uri}: has scale {settings.scale}; the generator needs a power of two"
        )
    if batch.hr_crop % settings.scale:
        raise UserError(
            f"batch.hr_crop {batch.hr_crop}: must be a multiple of the scale {settings.scale}"
        )
    if batch.hr_crop > settings.patch_size:
        raise UserError(
            f"batch.hr_crop {batch.hr_crop}: is larger than the patches of {data.uri} "
            f"({settings.patch_size}); lower it or prepare larger patches"
        )
    if config.trains_discriminator and batch.hr_crop < 16:
        raise UserError(f"batch.hr_crop {batch.hr_crop}: the discriminator needs 16 or more")
    if manifest.num_patches < batch.global_batch:
        raise UserError(
            f"batch.global_batch {batch.global_batch}: {data.uri} holds only "
            f"{manifest.num_patches} patches; lower it or prepare more images"
        )


def _check_same_run(run: Storage, config: Config, identity: dict[str, str]) -> None:
    if not read_metrics(run):
        return  # stopped before its first epoch ended: there is nothing to lose
    if run.size(CONFIG_KEY) is not None:
        old = parse_config(run.read(CONFIG_KEY).decode(), f"{run.uri}/{CONFIG_KEY}")
        if differences := differing_keys(old, config):
            raise UserError(
                f"{run.uri}: was begun with another configuration ({'; '.join(differences)}); "
                "choose another --run"
            )
    if run.size(DATASET_KEY) is not None:
        known = json.loads(run.read(DATASET_KEY))
        if known["manifest_sha256"] != identity["manifest_sha256"]:
            raise UserError(
                f"{run.uri}: was begun with the data set {known['uri']}, and {identity['uri']} "
                "has another manifest; choose another --run"
            )


def _is_finished(run: Storage, last_step: int) -> bool:
    """Whether the last epoch is in the log and its checkpoint is stored."""
    records = read_metrics(run)
    if not records or records[-1]["step"] < last_step:
        return False
    stored = (
        json.loads(run.read(found.key))["step"]
        for found in run.list(f"{CHECKPOINTS}/")
        if found.key.endswith(CHECKPOINT_META)
    )
    return records[-1]["step"] in stored


def _scaling(gpus: int | None, global_batch: int) -> ScalingConfig:
    """One worker with `gpus` GPUs, or with every CPU of the largest node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)))
    available = int(largest.get("GPU", 0))
    gpus = available if gpus is None else gpus
    if not 0 <= gpus <= available:
        raise UserError(
            f"--gpus-per-worker {gpus}: the largest node has {available} GPUs; "
            "pass one of 0 (the CPU) to that"
        )
    if global_batch % max(gpus, 1):
        raise UserError(
            f"batch.global_batch {global_batch}: does not divide among {gpus} GPUs; "
            "choose a multiple"
        )
    cpus = max(1, int(largest.get("CPU", 1)))
    return ScalingConfig(
        num_workers=1, use_gpu=gpus > 0, resources_per_worker={"CPU": cpus, "GPU": gpus}
    )
