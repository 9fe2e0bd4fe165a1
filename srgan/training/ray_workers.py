"""Ray Train around the workers: restarts, signals, a cluster that is too small."""

import errno
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
)
from ray.train.tensorflow import TensorflowTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_pipeline.loading.cache import DamagedShardError
from data_pipeline.platform.errors import JobFailedError, UserError
from srgan.config import CheckpointsConfig, FailuresConfig
from srgan.run_layout import CHECKPOINTS
from srgan.training.errors import DamagedCheckpointError, NonFiniteError
from srgan.training.resources import Workers, cluster_nodes, describe_nodes
from srgan.training.stop_switch import StopSwitch

# Another attempt would only meet them again. Some are told by TensorFlow's name for them.
_FINAL = (UserError, DamagedShardError, DamagedCheckpointError, NonFiniteError)
_FINAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_FINAL_NAMES = {"ResourceExhaustedError", "InvalidArgumentError", "UnimplementedError"}

# What a worker says that has lost the others.
_COLLATERAL_NAMES = {"UnavailableError", "AbortedError", "CancelledError"}

# Nodes that join are taken in so often at most, since the workers start again for it.
_SECONDS_BETWEEN_RESIZES = 600.0

_SECONDS_BETWEEN_LOOKS = 1.0

_log = logging.getLogger(__name__)


class _EndAtFinalErrors(UserCallback):
    """Ends the run at once where a worker failed in a way that a restart does not fix."""

    def __init__(self, switch: Any) -> None:
        self._switch = switch

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train's controller; what it raises ends the run."""
        self._switch.lose.remote()
        for error in worker_exceptions.values():
            cause = _cause(error)
            if (
                isinstance(cause, _FINAL)
                or getattr(cause, "errno", None) in _FINAL_ERRNOS
                or type(cause).__name__ in _FINAL_NAMES
            ):
                raise cause


def fit(
    worker: Callable[[dict[str, Any]], Any],
    arguments: dict[str, Any],
    workers: Workers,
    *,
    storage_path: str,
    checkpoints: CheckpointsConfig,
    failures: FailuresConfig,
) -> None:
    """Runs the workers to their end.

    The first SIGINT or SIGTERM makes them save and end, the second one ends them at once.

    Args:
        worker: What each of them calls; with `arguments` and a StopSwitch as `switch` among them.
            Returns an TrainingEnd.
        arguments: For it.
        workers: How many, and what they take.
        storage_path: RUN.
        checkpoints: How many are kept.
        failures: How often workers are started again.

    Raises:
        UserError: If that is what a worker raised, or the cluster stays too small.
        JobFailedError: If the workers fail otherwise.
        KeyboardInterrupt: After a signal.
    """
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    switch = StopSwitch.options(scheduling_strategy=node).remote()  # type: ignore[attr-defined]
    trainer = TensorflowTrainer(
        worker,
        train_loop_config=arguments | {"switch": switch},
        scaling_config=ScalingConfig(
            num_workers=_number(workers),
            use_gpu=workers.gpus > 0,
            resources_per_worker={"CPU": workers.cpus, "GPU": workers.gpus},
            elastic_resize_monitor_interval_s=_SECONDS_BETWEEN_RESIZES,
        ),
        run_config=RunConfig(
            name=CHECKPOINTS,
            storage_path=storage_path,
            checkpoint_config=CheckpointConfig(num_to_keep=checkpoints.keep),
            failure_config=FailureConfig(max_failures=failures.restarts),
            callbacks=[_EndAtFinalErrors(switch)],
            worker_runtime_env={"env_vars": {"TF_CPP_MIN_LOG_LEVEL": "2"}},
        ),
    )
    attempt = _Attempt(trainer.fit)
    watch = _ClusterWatch(workers, switch, failures.cluster_minutes)
    with _signals() as signals:
        asked = False
        while not attempt.ended(_SECONDS_BETWEEN_LOOKS):
            if signals and not asked:
                asked = True
                _log.info("stopping after a checkpoint; once more stops at once")
                if not _answer(switch.flip.remote(), otherwise=False):
                    raise KeyboardInterrupt  # nothing has begun, so there is nothing to save
            if len(signals) > 1:
                raise KeyboardInterrupt
            watch.check()
        try:
            outcome = attempt.result().return_value
        except TrainingFailedError as error:
            raise _reason(error) from error
        if outcome.stopped:
            _log.info("a checkpoint of step %d is saved", outcome.step)
            raise KeyboardInterrupt


def _number(workers: Workers) -> int | tuple[int, int]:
    return workers.most if workers.least == workers.most else (workers.least, workers.most)


class _Attempt:
    """A call in a thread, so that the main thread is free for signals."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._result: Any = None
        self._error: BaseException | None = None

        def call() -> None:
            try:
                self._result = function()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=call, daemon=True)
        self._thread.start()

    def ended(self, seconds: float) -> bool:
        """Whether it has ended, within so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> Any:
        """What the call returned; raises what it raised."""
        if self._error:
            raise self._error
        return self._result


class _ClusterWatch:
    """Waits only so long for a cluster that has room for the workers."""

    def __init__(self, workers: Workers, switch: Any, minutes: float) -> None:
        self._workers, self._switch, self._minutes = workers, switch, minutes
        self._waiting_since = time.monotonic()
        self._told = False

    def check(self) -> None:
        """Looks at the cluster. Raises UserError if no worker has been there for too long."""
        nodes = cluster_nodes()
        large_enough = self._workers.fit(nodes)
        if large_enough and _answer(self._switch.is_training.remote(), otherwise=True):
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


def _answer(asked: Any, *, otherwise: bool) -> bool:
    """What the switch answers; `otherwise` if it is gone, which ends no training."""
    try:
        return bool(ray.get(asked))
    except RayError:
        return otherwise


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The SIGINTs and SIGTERMs that arrive in the block; in another thread than the main, none."""
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


def _cause(error: BaseException) -> BaseException:
    """What a worker, or the callback, raised inside of Ray Train's wrappings."""
    error = getattr(error, "controller_failure", error)
    cause: BaseException = getattr(error, "_base_exc", error)
    return cause


def _reason(error: TrainingFailedError) -> Exception:
    """Why the run failed, in one line; the user's mistake as a UserError."""
    failures = getattr(error, "worker_failures", {})
    causes = [_cause(failures[rank]) for rank in sorted(failures)] or [_cause(error)]
    # The worker that failed, not one that lost it.
    cause = min(causes, key=lambda one: type(one).__name__ in _COLLATERAL_NAMES)
    if isinstance(cause, UserError):
        return cause
    line = _telling_line(str(cause))
    if isinstance(cause, JobFailedError):
        return JobFailedError(f"training failed: {line}")
    return JobFailedError(f"training failed: {type(cause).__name__}: {line}")


def _telling_line(text: str) -> str:
    """The first line that is neither a heading of TensorFlow's nor of a stack."""
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    headings = (" ", "\t", "Graph execution error", "Detected at node", "Stack trace")
    return next((line for line in lines if not line.startswith(headings)), lines[-1])
