"""One training step on every replica, and several of them in one compiled call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from srgan import losses
from srgan.config import Config, LossWeights, PhaseConfig
from srgan.training.state import TrainState
from srgan.vgg import FeatureExtractor


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
    extractors: Mapping[str, FeatureExtractor],
) -> TrainCall:
    """Compiles a phase's step.

    The generator and the discriminator are updated at the same time, from one forward pass of
    each: the adversarial gradient goes through the discriminator as it was before the step. The
    losses are divided by the global batch, and Keras's optimizers sum the gradients of the
    replicas.

    Args:
        strategy: Runs the step on every replica.
        state: What the step updates.
        config: The experiment.
        phase: Its losses.
        extractors: By term, those that the losses need.

    Returns:
        A function (distributed iterator of uint8 LR/HR, number of steps, this worker's requests
        float64 [n]) -> CallResult. With `failures.skip_steps` a step whose terms are not all
        finite changes nothing; otherwise it changes the state like any other.
    """
    names = term_names(phase.losses)
    differentiate = _make_differentiate(state, config, phase.losses, extractors)
    if config.xla:
        differentiate = tf.function(differentiate, jit_compile=True)
    trained = _trained(state)
    replicas = strategy.num_replicas_in_sync

    def replica_step(lr: tf.Tensor, hr: tf.Tensor) -> tf.Tensor:
        terms, *gradients = differentiate(lr, hr)
        for (network, optimizer), gradient in zip(trained.values(), gradients, strict=True):
            if phase.clip_norm:
                gradient = _clip(gradient, phase.clip_norm, replicas)  # noqa: PLW2901
            optimizer.apply(gradient, network.trainable_variables)
        return terms

    def train_call(iterator: Iterator[Any], steps: tf.Tensor, requests: tf.Tensor) -> CallResult:
        rows = tf.TensorArray(tf.float64, steps, element_shape=[len(names)])
        waited = tf.zeros((), tf.float64)
        for index in tf.range(steps):
            asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                batch = next(iterator)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += tf.timestamp() - asked
            before = _copies(strategy, state) if config.failures.skip_steps else []
            row = strategy.reduce("SUM", strategy.run(replica_step, args=batch), axis=None)
            if state.average:
                _average(strategy, state, config.generator_average)
            if config.failures.skip_steps:
                good = tf.reduce_all(tf.math.is_finite(row))
                for variable, value in before:
                    variable.assign(tf.where(good, variable, value))
            rows = rows.write(index, row)
        asked_for = strategy.reduce("SUM", strategy.run(tf.identity, args=(requests,)), axis=None)
        return CallResult(rows.stack(), waited, asked_for)

    compiled: TrainCall = tf.function(train_call)
    return compiled


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


def _make_differentiate(
    state: TrainState,
    config: Config,
    weights: LossWeights,
    extractors: Mapping[str, FeatureExtractor],
) -> Callable[[tf.Tensor, tf.Tensor], Any]:
    """A function (LR, HR) -> (terms float64 [n], a list of gradients for every network)."""
    dtype = state.generator.output.dtype
    names = term_names(weights)
    factors = weights.active
    pixel_terms = _pixel_terms(extractors)
    trained = _trained(state)
    global_batch = config.batch.global_batch

    def mean(values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(values) / global_batch

    def differentiate(lr: tf.Tensor, hr: tf.Tensor) -> Any:
        inputs = tf.cast(lr, dtype) / 255
        targets = tf.cast(hr, dtype) / 127.5 - 1
        with tf.GradientTape(persistent=state.discriminator_optimizer is not None) as tape:
            sr = state.generator(inputs, training=True)
            terms = {
                name: mean(term(targets, sr))
                for name, term in pixel_terms.items()
                if name in factors
            }
            if state.discriminator_optimizer:
                assert state.discriminator is not None
                hr_logits = state.discriminator(targets, training=True)
                sr_logits = state.discriminator(sr, training=True)
                terms["adversarial"] = mean(losses.adversarial(sr_logits))
                terms["discriminator_loss"] = mean(losses.discriminator(hr_logits, sr_logits))
            terms["generator_loss"] = tf.add_n(
                [factor * tf.cast(terms[name], dtype) for name, factor in factors.items()]
            )
        if state.discriminator_optimizer:
            terms |= {"d_hr": mean(tf.sigmoid(hr_logits)), "d_sr": mean(tf.sigmoid(sr_logits))}
        shift = tf.reduce_mean((sr + 1) / 2, (1, 2)) - tf.reduce_mean(inputs, (1, 2))
        for channel, name in enumerate(("shift_red", "shift_green", "shift_blue")):
            terms[name] = mean(shift[:, channel])
        gradients = []
        for name, (network, _) in trained.items():
            gradient = tape.gradient(terms[f"{name}_loss"], network.trainable_variables)
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(part)) for part in gradient])
            terms[_GRADIENT.format(name)] = tf.where(finite, 0.0, float("nan"))
            gradients.append(gradient)
        return tf.stack([tf.cast(terms[name], tf.float64) for name in names]), *gradients

    return differentiate


def _trained(
    state: TrainState,
) -> dict[str, tuple[keras.Model, keras.optimizers.Optimizer]]:
    """The networks that the phase trains, each with its optimizer, by name."""
    trained = {"generator": (state.generator, state.generator_optimizer)}
    if state.discriminator_optimizer:
        trained["discriminator"] = (state.discriminator, state.discriminator_optimizer)
    return trained


def _pixel_terms(
    extractors: Mapping[str, FeatureExtractor],
) -> dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """The terms that compare SR with HR, or look at SR alone: (HR, SR) -> [N]."""

    def content(name: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        return lambda hr, sr: losses.content(extractors[name](hr), extractors[name](sr))

    return {
        "mse": losses.pixel_mse,
        "l1": losses.pixel_l1,
        "vgg22": content("vgg22"),
        "vgg54": content("vgg54"),
        "total_variation": lambda _, sr: losses.total_variation(sr),
    }


def _clip(gradient: list[tf.Tensor], norm: float, replicas: int) -> list[tf.Tensor]:
    """Scales the sum over all replicas to a global norm of at most `norm`.

    Returns:
        A replica's share of it, since the optimizer sums the replicas' gradients again. Keras's
        own clipping would scale each replica's gradient, and depend on their number.
    """
    context = tf.distribute.get_replica_context()
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, gradient)
    clipped, _ = tf.clip_by_global_norm(total, norm)
    return [value / replicas for value in clipped]


def _components(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> list[tf.Variable]:
    """This process's copies of mirrored variables."""
    return [
        component
        for variable in variables
        for component in strategy.experimental_local_results(variable.value)
    ]


def _copies(
    strategy: tf.distribute.Strategy, state: TrainState
) -> list[tuple[tf.Variable, tf.Tensor]]:
    """The state's variables with their values."""
    owners = [owner for owner in state if owner is not None]
    variables = [variable for owner in owners for variable in owner.variables]
    return [(variable, tf.identity(variable)) for variable in _components(strategy, variables)]


def _average(strategy: tf.distribute.Strategy, state: TrainState, decay: float | None) -> None:
    """The average becomes decay * itself + (1 - decay) * generator, BN statistics too."""
    assert state.average is not None
    assert decay is not None
    pairs = zip(
        _components(strategy, state.average.variables),
        _components(strategy, state.generator.variables),
        strict=True,
    )
    for average, value in pairs:
        # Every variable has a floating type: these networks draw no random numbers.
        average.assign(decay * average + (1 - decay) * tf.convert_to_tensor(value))
