"""The training loop: phases, epochs, and calls of the compiled steps."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.loading.dataset import Batches
from data_pipeline.loading.patch_set import PatchSet
from srgan.config import Config
from srgan.network_losses import Loss
from srgan.training.checkpoint import Checkpoint, Position
from srgan.training.device_facts import device_peak_flops, peak_memory, phase_flops
from srgan.training.failures import NonFiniteError
from srgan.training.phases import Phase, phase_of
from srgan.training.pulse import Place, Pulse
from srgan.training.rehearsal import Rehearsal
from srgan.training.requests import Requester, Requests, StopRequest, TrainingEnd
from srgan.training.saving import Saver
from srgan.training.state import (
    Networks,
    TrainState,
    begin_phase,
    last_rate,
    set_state,
    state_arrays,
)
from srgan.training.step import TrainCall, make_train_call, shown_terms, term_names
from srgan.training.strategy import steps_per_call, uses_xla
from srgan.training.totals import EpochTotals, FinishedEpoch, compute_rates
from srgan.training.training_log import TrainingLog


class Loop:
    """One worker's training. All workers do the same steps and save after the same steps."""

    def __init__(
        self,
        config: Config,
        strategy: tf.distribute.Strategy,
        networks: Networks,
        compare: Mapping[str, Loss],
        *,
        phases: Sequence[Phase],
        batches: Batches,
        patches: PatchSet,
        saver: Saver | None,
        stop: StopRequest,
        gpus: int,
        began: float,
        pulse: Pulse,
        rehearsal: Rehearsal | None,
    ) -> None:
        """Takes what the worker has set up; only the first worker has a `saver`.

        The worker began at `began`, by time.monotonic. A rehearsal ends a phase early.
        """
        self._config, self._strategy = config, strategy
        self._networks, self._compare = networks, compare
        self._phases, self._batches, self._patches = phases, batches, patches
        self._saver, self._pulse = saver, pulse
        self._xla = uses_xla(config, gpus=gpus, replicas=strategy.num_replicas_in_sync)
        self._steps_per_call = steps_per_call(config, gpus=gpus)
        self._requester = Requester(
            stop,
            every_minutes=config.checkpoints.every_minutes,
            is_first=saver is not None,
            rehearsal=rehearsal,
        )
        self._rehearsal = rehearsal
        self._state: TrainState | None = None
        self._step = self._skipped = 0
        self._totals = EpochTotals()
        self._first_call_is_due = True
        self._began, self._counted, self._before = began, began, 0.0
        self._flops = phase_flops(networks, config, scale=batches.scale)
        self._log = TrainingLog(phases, self._flops, saver)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint.

        Raises:
            DamagedCheckpointError: If it is another network's.
        """
        self._step = checkpoint.position.step
        self._skipped = checkpoint.position.skipped
        self._totals = EpochTotals(checkpoint.position.epoch)
        self._log.restore(checkpoint.position.epoch)
        self._state = self._begin(phase_of(self._phases, self._step))
        set_state(self._state, checkpoint.arrays, checkpoint.name)

    def run(self) -> TrainingEnd:
        """Trains what is not done.

        Raises:
            NonFiniteError: Naming the term and the step; what was being saved is saved.
        """
        self._log.begin(
            self._config,
            self._strategy,
            xla=self._xla,
            patches=len(self._patches),
            step=self._step,
        )
        self._counted = time.monotonic()
        self._before = self._counted - self._began
        current = phase_of(self._phases, self._step)
        state = self._state or self._begin(current)
        stopped = False
        try:
            for phase in self._phases[self._phases.index(current) :]:
                if phase != current:
                    state = self._begin(phase)
                # A run that begins at a phase's end may still have to finish its last epoch.
                if self._step < phase.stop or self._totals.sums:
                    stopped = self._train_phase(phase, state)
                if stopped:
                    break
        except Exception as error:
            self._pulse.at(Place.SAVE, self._step)
            if self._saver:
                self._saver.finish_after(error)
            raise
        self._pulse.at(Place.SAVE, self._step)
        if self._saver:
            self._saver.finish(is_run_end=not stopped)
        return TrainingEnd(self._step, stopped)

    def _begin(self, phase: Phase) -> TrainState:
        with self._strategy.scope():
            return begin_phase(self._networks, phase.config, steps=phase.steps)

    def _train_phase(self, phase: Phase, state: TrainState) -> bool:
        """Trains to the phase's end. Returns whether it was asked to stop before the run's."""
        self._first_call_is_due = True
        if self._rehearsal:
            self._rehearsal.begin_phase()
        iterator = iter(self._distributed_batches(self._step, phase.stop))
        train_call = make_train_call(
            self._strategy, state, self._config, phase.config, self._compare, xla=self._xla
        )
        for epoch in range(phase.epoch_of(self._step), phase.epochs + 1):
            stop = phase.epoch_stop(epoch)
            asked_to_stop = False
            while self._step < stop and not asked_to_stop:
                requests = self._call(phase, train_call, iterator, stop)
                asked_to_stop = bool(requests.stop)
                preempted = self._requester.is_preempted(requests)
                due = preempted or requests.save or self._is_multiple(self._step)
                if self._step < stop and (asked_to_stop or due):
                    self._save(phase, state, None)
                if requests.enough:
                    # The save at the end is counted after the epoch's record: this one is in it.
                    self._save(phase, state, None)
                    self._step = stop = phase.stop
                if self._log.is_due() and self._step < stop:
                    terms = self._totals.means(shown_terms(phase.config.losses))
                    self._log.progress(
                        phase, epoch, self._step, terms | self._speed(), self._totals.sums
                    )
            if self._step == stop:
                self._finish_epoch(phase, state, epoch)
            if asked_to_stop:
                return self._step < self._phases[-1].stop
            if self._step == phase.stop:
                break
        return False

    def _call(
        self, phase: Phase, train_call: TrainCall, iterator: Iterator[Any], stop: int
    ) -> Requests:
        """Trains some steps, at most to `stop`. Returns what the workers ask for then."""
        count = min(self._steps_per_call, stop - self._step)
        every = self._config.checkpoints.every_steps
        if every:
            count = min(count, every - self._step % every)
        self._pulse.at(Place.FIRST_CALL if self._first_call_is_due else Place.CALL, self._step)
        began = time.monotonic()
        try:
            result = train_call(
                iterator, tf.constant(count), tf.constant(self._requester.own(), tf.float64)
            )
            rows, requests = result.terms.numpy(), Requests(*result.requests.numpy().tolist())
        except tf.errors.OpError:
            if self._patches.failure:  # the real reason, which TensorFlow hides in a traceback
                raise self._patches.failure from None
            raise
        names = term_names(phase.config.losses)
        good = np.isfinite(rows).all(axis=1)
        for number in np.flatnonzero(~good):
            self._skip(phase, self._step + int(number) + 1, names, rows[number])
        self._step += count
        self._pulse.at(Place.BETWEEN, self._step)
        self._totals.add_steps(names, rows[good], skipped=int((~good).sum()))
        now, waited = time.monotonic(), float(result.data_wait)
        self._totals.add(
            data_wait_seconds=waited, call_seconds=now - began, seconds=now - self._counted
        )
        self._counted = now
        if self._first_call_is_due:
            self._totals.add(
                before_seconds=self._before,
                startup_seconds=began - self._began,
                first_call_seconds=now - began,
                first_wait_seconds=waited,
                first_steps=count,
            )
            self._first_call_is_due, self._before = False, 0.0
        elif self._rehearsal:
            self._rehearsal.add(now - began)
        return requests

    def _is_multiple(self, step: int) -> bool:
        every = self._config.checkpoints.every_steps
        return every is not None and step % every == 0

    def _skip(self, phase: Phase, step: int, names: Sequence[str], row: Any) -> None:
        """Leaves out a step that is not finite, or ends the run."""
        name, value = next(
            (name, value) for name, value in zip(names, row, strict=True) if not np.isfinite(value)
        )
        self._skipped += 1
        allowed = self._config.failures.skip_steps
        if self._skipped > allowed:
            raise NonFiniteError(
                f"{name} is {value} at step {step}, in phase {phase.name}; the last checkpoint is "
                "kept: set failures.skip_steps to go on, or begin another --run with a lower "
                f"phases.{phase.name}.learning_rate.initial or a phases.{phase.name}.clip_norm"
            )
        self._log.skipped(step, name, value, count=self._skipped, allowed=allowed)

    def _save(self, phase: Phase, state: TrainState, epoch: FinishedEpoch | None) -> None:
        self._pulse.at(Place.SAVE, self._step)
        began = time.monotonic()
        self._requester.note_save()
        if not self._saver:
            return
        position = Position(
            step=self._step,
            phase=phase.name,
            phase_start=phase.start,
            skipped=self._skipped,
            epoch={} if epoch else dict(self._totals.sums),
        )
        self._saver.save(lambda: state_arrays(state), position, epoch)
        self._totals.add(save_seconds=time.monotonic() - began)

    def _finish_epoch(self, phase: Phase, state: TrainState, epoch: int) -> None:
        record: dict[str, Any] = {
            "time": round(time.time(), 3),
            "phase": phase.name,
            "epoch": epoch,
            "step": self._step,
            "learning_rate": last_rate(state, phase.config, steps=phase.steps),
        }
        terms = [name for name in term_names(phase.config.losses) if not name.endswith("_gradient")]
        record |= self._totals.means(terms) | self._speed() | peak_memory()
        uses = self._totals.seconds_by_use()
        record |= {f"{use}_seconds": round(seconds, 4) for use, seconds in uses.items()}
        record |= compute_rates(
            self._flops[phase.name] * self._totals.computed_steps,
            uses,
            devices=self._strategy.num_replicas_in_sync,
            peak=device_peak_flops(self._config),
        )
        if self._rehearsal:
            record["step_seconds"] = list(self._rehearsal.seconds)
        self._pulse.end_epoch(f"{phase.name} epoch {epoch}", self._totals.sums)
        self._log.end_epoch(phase, self._totals.sums)
        self._totals = EpochTotals()
        self._save(phase, state, FinishedEpoch(phase, epoch, record))
        self._log.progress(phase, epoch, self._step, record, self._totals.sums)
        self._log.uses(phase, epoch, uses, record)
        self._began = time.monotonic()  # of the next phase, if this one ends here

    def _speed(self) -> dict[str, float]:
        return self._totals.speed(self._config.batch.global_batch)

    def _distributed_batches(self, start: int, stop: int) -> tf.distribute.DistributedDataset:
        def dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = context.num_replicas_in_sync // context.num_input_pipelines
            first = context.input_pipeline_id * local
            return self._batches.dataset(
                start=start,
                stop=stop,
                replicas=range(first, first + local),
                num_replicas=context.num_replicas_in_sync,
                # A finite one makes the workers ask each other at every step whether it ended.
                endless=True,
            )

        return self._strategy.distribute_datasets_from_function(dataset)
