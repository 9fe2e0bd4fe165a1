"""One training step on every replica, and several of them in one compiled call."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from srgan import losses
from srgan.config import Config, LossWeights, PhaseConfig
from srgan.network_losses import Loss
from srgan.training.adam import FusedAdam, assign
from srgan.training.state import TrainState


class CallResult(NamedTuple):
    """What the steps of one call gave.

    Attributes:
        terms: float64 [steps, terms]: means over the global batch, in the order of `term_names`.
        data_wait: Seconds between asking for batches and having them. The end of the step before
            runs meanwhile, so this is an upper bound.
        requests: float64, as passed in: sums over all replicas.
    """

    terms: tf.Tensor
    data_wait: tf.Tensor
    requests: tf.Tensor


TrainCall = Callable[[Iterator[Any], tf.Tensor, tf.Tensor], CallResult]

_GRADIENT = "{}_gradient"


def make_train_call(
    strategy: tf.distribute.Strategy,
    state: TrainState,
    config: Config,
    phase: PhaseConfig,
    compare: Mapping[str, Loss],
    *,
    xla: bool = False,
) -> TrainCall:
    """Compiles a phase's step.

    Args:
        strategy: Runs the step on every replica.
        state: What the step updates.
        config: The experiment.
        phase: Its losses.
        compare: By term, the losses by networks that the phase needs.
        xla: Compile with XLA: on one replica the whole step, which is then one launch; on several
            all but the sums over replicas and what follows them.

    Returns:
        A function (distributed iterator of uint8 LR/HR, number of steps, this worker's requests
        float64 [n]) -> CallResult. With `failures.skip_steps` a step whose terms are not all
        finite changes nothing; otherwise it changes the state like any other.
    """
    replicas = strategy.num_replicas_in_sync
    replica_step = Step(state, config, phase, compare, replicas=replicas, xla=xla).run
    columns = len(term_names(phase.losses))

    def train_call(iterator: Iterator[Any], steps: tf.Tensor, requests: tf.Tensor) -> CallResult:
        rows = tf.TensorArray(tf.float64, steps, element_shape=[columns])
        waited = tf.zeros((), tf.float64)
        for index in tf.range(steps):
            asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                batch = next(iterator)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += tf.timestamp() - asked
            row = strategy.run(replica_step, args=batch)
            rows = rows.write(index, strategy.experimental_local_results(row)[0])
        asked_for = strategy.reduce("SUM", strategy.run(tf.identity, args=(requests,)), axis=None)
        return CallResult(rows.stack(), waited, asked_for)

    compiled: TrainCall = tf.function(train_call)
    return compiled


class Step:
    """One step of one replica: the paper's algorithm (Ledig et al. 2017, section 2).

    Attributes:
        run: A function (LR, HR) -> terms, as `_replica_step`.
    """

    def __init__(
        self,
        state: TrainState,
        config: Config,
        phase: PhaseConfig,
        compare: Mapping[str, Loss],
        *,
        replicas: int,
        xla: bool,
    ) -> None:
        """Takes what `make_train_call` takes."""
        self._state, self._config, self._phase = state, config, phase
        self._replicas = replicas
        self._image_terms = _image_terms(compare)
        self._names = term_names(phase.losses)
        self._trained: list[tuple[keras.Model, FusedAdam]] = [
            (state.generator, state.generator_optimizer)
        ]
        self._discriminator = state.discriminator if state.discriminator_optimizer else None
        if self._discriminator and state.discriminator_optimizer:
            self._trained.append((self._discriminator, state.discriminator_optimizer))
        self.run, self._differentiate = self._replica_step, self._gradients
        if xla and replicas == 1:
            self.run = tf.function(self._replica_step, jit_compile=True)
        elif xla:
            self._differentiate = tf.function(self._gradients, jit_compile=True)

    def _replica_step(self, lr: tf.Tensor, hr: tf.Tensor) -> tf.Tensor:
        """Updates this replica's copies of the state.

        Args:
            lr: uint8 [N, h, w, 3], this replica's part of the global batch.
            hr: uint8 [N, H, W, 3].

        Returns:
            float64 [terms]: means over the global batch, in the order of `term_names`.
        """
        may_skip = self._config.failures.skip_steps > 0
        before = [(one, tf.identity(one.value)) for one in self._statistics() if may_skip]
        terms, gradient = self._differentiate(lr, hr)
        if self._replicas > 1:
            context = tf.distribute.get_replica_context()
            terms = context.all_reduce(tf.distribute.ReduceOp.SUM, terms)
            gradient = context.all_reduce(tf.distribute.ReduceOp.SUM, gradient)
        parts = tf.split(gradient, [_size(network) for network, _ in self._trained])
        finite = [tf.reduce_all(tf.math.is_finite(part)) for part in parts]
        terms = tf.concat(
            [terms, [tf.where(one, tf.zeros((), terms.dtype), float("nan")) for one in finite]], 0
        )
        if may_skip:
            good = tf.reduce_all(tf.math.is_finite(terms))
            tf.cond(good, lambda: self._update(parts), lambda: None)
            for variable, value in before:
                assign(variable, tf.where(good, variable.value, value))
        else:
            self._update(parts)
        return terms

    def _gradients(self, lr: tf.Tensor, hr: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The terms and the gradients of this replica's part of the batch.

        The discriminator's tape begins after SR: its loss has no gradient in the generator. The
        adversarial loss goes through the discriminator as it was before the step.

        Returns:
            Terms, float64 [terms without those of gradients]; and the gradients of all networks
            that the phase trains, end to end, [parameters]. Both are sums over this replica's
            patches, divided by the global batch.
        """
        state, weights = self._state, self._phase.losses.active
        dtype = state.generator.output.dtype
        inputs = tf.cast(lr, dtype) / 255
        targets = tf.cast(hr, dtype) / 127.5 - 1
        terms: dict[str, tf.Tensor] = {}
        with tf.GradientTape() as generator_tape:
            sr = state.generator(inputs, training=True)
            if self._discriminator:
                with tf.GradientTape() as discriminator_tape:
                    hr_logits = self._discriminator(targets, training=True)
                    sr_logits = self._discriminator(sr, training=True)
                    terms["discriminator_loss"] = self._mean(
                        losses.discriminator(hr_logits, sr_logits)
                    )
                terms["adversarial"] = self._mean(losses.adversarial(sr_logits))
            for name, term in self._image_terms.items():
                if name in weights:
                    terms[name] = self._mean(term(targets, sr))
            terms["generator_loss"] = tf.add_n(
                [factor * tf.cast(terms[name], dtype) for name, factor in weights.items()]
            )
        gradients = generator_tape.gradient(
            terms["generator_loss"], state.generator.trainable_variables
        )
        if self._discriminator:
            gradients += discriminator_tape.gradient(
                terms["discriminator_loss"], self._discriminator.trainable_variables
            )
            terms |= {
                "d_hr": self._mean(losses.image_means(tf.sigmoid(hr_logits))),
                "d_sr": self._mean(losses.image_means(tf.sigmoid(sr_logits))),
            }
        shift = tf.reduce_mean((sr + 1) / 2, (1, 2)) - tf.reduce_mean(inputs, (1, 2))
        for channel, colour in enumerate(("red", "green", "blue")):
            terms[f"shift_{colour}"] = self._mean(shift[:, channel])
        named = self._names[: -len(self._trained)]
        return (
            tf.stack([tf.cast(terms[name], tf.float64) for name in named]),
            tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0),
        )

    def _mean(self, values: tf.Tensor) -> tf.Tensor:
        """The sum over replicas of this is the mean over the global batch."""
        return tf.reduce_sum(values) / self._config.batch.global_batch

    def _update(self, parts: Sequence[tf.Tensor]) -> None:
        """Adam's updates by the gradients of the whole batch, [parameters] of each network."""
        for part, (network, optimizer) in zip(parts, self._trained, strict=True):
            gradient = part
            if self._phase.clip_norm:
                [gradient], _ = tf.clip_by_global_norm([part], self._phase.clip_norm)
            variables = network.trainable_variables
            pieces = tf.split(gradient, [math.prod(variable.shape) for variable in variables])
            optimizer.apply_sum(
                [
                    tf.reshape(piece, one.shape)
                    for piece, one in zip(pieces, variables, strict=True)
                ],
                variables,
            )
        if self._state.average:
            self._average()

    def _average(self) -> None:
        """The average becomes decay * itself + (1 - decay) * generator, BN statistics too.

        After n updates of a phase the decay is min(generator_average, (1 + n) / (10 + n)), as in
        TensorFlow's ExponentialMovingAverage. At first the average is thus mostly of the phase's
        last tenth. It soon forgets the values that it began with: random weights in the first
        phase; in a later one the average of the phase before. That was trained with another loss,
        and a constant decay would keep it for 1 / (1 - decay) steps, in a short phase to its end.
        The optimizer counts n: a resume goes on with it, and skipped steps do not count.
        """
        assert self._state.average is not None
        assert self._config.generator_average is not None
        dtype = self._state.generator.output.dtype
        updates = tf.cast(self._state.generator_optimizer.iterations.value, dtype)
        most = tf.constant(self._config.generator_average, dtype)
        decay = tf.minimum(most, (1 + updates) / (10 + updates))
        pairs = zip(self._state.average.variables, self._state.generator.variables, strict=True)
        for average, variable in pairs:
            # Every variable has a floating type: these networks draw no random numbers.
            assign(average, decay * average.value + (1 - decay) * variable.value)

    def _statistics(self) -> list[Any]:
        """The moving averages that the forward pass changes."""
        return [
            variable for network, _ in self._trained for variable in network.non_trainable_variables
        ]


def _size(network: keras.Model) -> int:
    """Its trainable parameters."""
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def term_names(weights: LossWeights) -> list[str]:
    """The terms of a phase with these losses.

    Every loss term before its weight; `generator_loss`, the weighted sum; in a phase with a
    discriminator `discriminator_loss`, `d_hr` and `d_sr` (its mean probabilities of "real");
    `shift_red`, `shift_green`, `shift_blue`: mean SR minus mean LR in [0, 1]; last of all, for
    every network `generator_gradient` and so on: 0, or NaN where its gradient is not finite.
    """
    names = [*weights.active, "generator_loss"]
    if weights.adversarial:
        names += ["discriminator_loss", "d_hr", "d_sr"]
    names += ["shift_red", "shift_green", "shift_blue", _GRADIENT.format("generator")]
    return [*names, *([_GRADIENT.format("discriminator")] if weights.adversarial else [])]


def shown_terms(weights: LossWeights) -> list[str]:
    """The terms that a progress line shows."""
    return [*weights.active, *(("d_hr", "d_sr") if weights.adversarial else ())]


def _image_terms(compare: Mapping[str, Loss]) -> dict[str, Loss]:
    """The terms that compare SR with HR, or look at SR alone: (HR, SR) -> [N]."""
    return {
        "mse": losses.pixel_mse,
        "l1": losses.pixel_l1,
        **compare,
        "total_variation": lambda _, sr: losses.total_variation(sr),
    }
