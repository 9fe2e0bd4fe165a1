"""Ray Train around the workers: restarts, signals, a cluster that is too small.

Ray starts, watches and restarts the workers. It stores nothing: checkpoints are ours.
"""

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.exceptions import RayError, RayTaskError
from ray.train import (
    ControllerError,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.logs import configure_logging
from srgan.config import FailuresConfig
from srgan.training.addresses import Addresses
from srgan.training.failures import Failure, describe, first_cause, is_foreseen
from srgan.training.pulse import Pulse
from srgan.training.requests import Switchboard, TrainingEnd
from srgan.training.resources import Workers, cluster_nodes, describe_nodes
from srgan.training.watchdog import Watchdog, end_silent

# Workers start again when nodes join: this often at most.
_SECONDS_BETWEEN_RESIZES = 600.0

_SECONDS_BETWEEN_LOOKS = 0.5

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

_log = logging.getLogger(__name__)


class _Failures(UserCallback):
    """Names workers that do not answer; ends the run where a restart does not fix a failure."""

    def __init__(self, switchboard: Any, restarts: int) -> None:
        self._switchboard, self._restarts = switchboard, restarts

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train's controller; what it raises ends the run."""
        end_silent(self._switchboard)
        for error in worker_exceptions.values():
            death = getattr(error, "health_check_failure", None)
            if isinstance(death, RayError):
                ray.get(self._switchboard.fail.remote(describe(death)))
        told = ray.get(self._switchboard.lose_workers.remote())
        for failure in told:
            if failure.is_final:
                raise ControllerError(failure.error)  # Ray logs the traceback of any other kind
        self._restarts -= 1
        cause = first_cause(told)
        if cause and self._restarts >= 0:
            reason = str(cause.error).removeprefix("training failed: ").partition("; ")[0]
            line = f"the workers start again from the last checkpoint: {reason}"
            ray.get(self._switchboard.note_lines.remote([line]))


def fit(
    worker: Callable[..., TrainingEnd],
    arguments: dict[str, Any],
    workers: Workers,
    *,
    failures: FailuresConfig,
) -> None:
    """Runs the workers to their end.

    The first SIGINT or SIGTERM makes them save and end, the second one ends them at once.

    Args:
        worker: What each of them calls, with `arguments`, `switchboard=` a Switchboard, and
            `pulse=` a Pulse.
        arguments: For it, by name.
        workers: How many, and what they take.
        failures: How often workers are started again, and when they hang.

    Raises:
        UserError: If a worker raised one, or the cluster stays too small.
        JobFailedError: If the workers fail otherwise.
        KeyboardInterrupt: After a signal.
    """
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    switchboard: Any = Switchboard.options(  # type: ignore[attr-defined]
        scheduling_strategy=node
    ).remote()
    settings = {name: value for name, value in os.environ.items() if name.startswith("RAY_TRAIN_")}
    # In a process of its own. A thread that waits in Ray can be neither woken nor left behind:
    # Python crashes if one still waits at its end.
    task = ray.remote(
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=node,
        runtime_env={"env_vars": settings},
    )(_run_trainer)
    training = task.remote(worker, arguments | {"switchboard": switchboard}, workers, failures)
    watch = _ClusterWatch(workers, switchboard, failures.cluster_minutes)
    watchdog = Watchdog(switchboard, failures.stall_minutes)
    try:
        end = _await_end(training, switchboard, [watch.check, watchdog.check])
        watchdog.check()  # the last epoch's slowest worker
    except RayError as error:  # of the workers, the controller, an actor
        told = _answer(switchboard.failures.remote(), otherwise=())
        raise _reason(error, told) from error
    finally:
        ray.cancel(training, force=True)  # if it has not ended
    if end.stopped:
        _log.info("a checkpoint of step %d is saved", end.step)
        raise KeyboardInterrupt


def _run_trainer(
    worker: Callable[..., TrainingEnd],
    arguments: dict[str, Any],
    workers: Workers,
    failures: FailuresConfig,
) -> TrainingEnd:
    """Ray Train from its begin to its end. The arguments are those of `fit`."""
    configure_logging()

    def run(given: dict[str, Any]) -> TrainingEnd:
        try:
            with Pulse(given["switchboard"]) as pulse:
                return worker(**given, pulse=pulse)
        except Exception as error:
            if not is_foreseen(error):
                _log.exception("a worker fails")
            ray.get(given["switchboard"].fail.remote(describe(error)))
            raise

    trainer = DataParallelTrainer(
        run,
        train_loop_config=arguments,
        backend_config=Addresses(),
        scaling_config=ScalingConfig(
            num_workers=_number(workers),
            use_gpu=workers.gpus > 0,
            resources_per_worker={"CPU": workers.cpus, "GPU": workers.gpus},
            elastic_resize_monitor_interval_s=_SECONDS_BETWEEN_RESIZES,
        ),
        run_config=RunConfig(
            name=f"training-{uuid.uuid4().hex}",
            # Ray insists on a place of its own. Nothing is ever put into it.
            storage_filesystem=PyFileSystem(FSSpecHandler(MemoryFileSystem())),
            storage_path="ray-train",
            failure_config=FailureConfig(max_failures=failures.restarts),
            callbacks=[_Failures(arguments["switchboard"], failures.restarts)],
            # Its errors reach the driver, and its files keep everything.
            logging_config=LoggingConfig(log_level="CRITICAL"),
            worker_runtime_env={"env_vars": {_LOG_LEVEL: os.environ.get(_LOG_LEVEL, "2")}},
        ),
    )
    end: TrainingEnd = trainer.fit().return_value
    return end


def _await_end(
    training: Any, switchboard: Any, checks: Sequence[Callable[[], None]]
) -> TrainingEnd:
    """Waits for the workers, and passes signals on to them."""
    with _signals() as signals:
        asked = False
        while not ray.wait([training], timeout=_SECONDS_BETWEEN_LOOKS)[0]:
            if signals and not asked:
                asked = True
                _log.info("stopping after a checkpoint; once more stops at once")
                if not _answer(switchboard.stop.remote(), otherwise=False):
                    raise KeyboardInterrupt  # nothing has begun, so there is nothing to save
            if len(signals) > 1:
                raise KeyboardInterrupt
            for check in checks:
                check()
        end: TrainingEnd = ray.get(training)
        return end


def _number(workers: Workers) -> int | tuple[int, int]:
    return workers.most if workers.least == workers.most else (workers.least, workers.most)


class _ClusterWatch:
    """Limits the wait for a cluster that has room for the workers."""

    def __init__(self, workers: Workers, switchboard: Any, minutes: float) -> None:
        self._workers, self._switchboard, self._minutes = workers, switchboard, minutes
        self._waiting_since = time.monotonic()
        self._told = False

    def check(self) -> None:
        """Looks at the cluster. Raises UserError if no worker has been there for too long."""
        nodes = cluster_nodes()
        large_enough = self._workers.fit(nodes)
        if large_enough and _answer(self._switchboard.is_training.remote(), otherwise=True):
            self._waiting_since, self._told = time.monotonic(), False
            return
        state = f"{self._workers} are asked for, the cluster has {describe_nodes(nodes)}"
        if not large_enough and not self._told:
            self._told = True
            _log.warning("%s: waiting %g minutes for more", state, self._minutes)
        if time.monotonic() - self._waiting_since > 60 * self._minutes:
            free = ray.available_resources()
            raise UserError(
                f"{state}, {free.get('CPU', 0):g} CPU(s) and {free.get('GPU', 0):g} GPU(s) of "
                f"which are free after {self._minutes:g} minutes; add nodes, end what else runs "
                "there, or ask for less with --num-workers and --gpus-per-worker"
            )


def _answer(asked: Any, *, otherwise: Any) -> Any:
    """What the Switchboard answers; `otherwise` if it is gone, which ends no training."""
    try:
        return ray.get(asked)
    except RayError:
        return otherwise


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the SIGINTs and SIGTERMs that arrive in the block. Only the main thread gets any."""
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, _: arrived.append(number)) for kind in kinds]
    try:
        yield arrived
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _reason(error: RayError, told: Sequence[Failure]) -> Exception:
    """What ends the job: why a worker failed, else why Ray Train did."""
    cause = first_cause(told) or describe(error.cause if isinstance(error, RayTaskError) else error)
    return cause.error
