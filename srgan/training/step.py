"""One training step on every replica, and several of them in one compiled call."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from srgan import losses
from srgan.config import Config, LossWeights, PhaseConfig
from srgan.networks import discriminator, generator
from srgan.vgg import FeatureExtractor


class Networks(NamedTuple):
    """What the phases of a run share; the discriminator is None where no phase trains it."""

    generator: keras.Model
    discriminator: keras.Model | None


class TrainState(NamedTuple):
    """Everything that a phase changes. Its variables are what a checkpoint holds.

    The discriminator and its optimizer are None in a phase that does not train them.
    """

    generator: keras.Model
    generator_optimizer: keras.optimizers.Optimizer
    discriminator: keras.Model | None = None
    discriminator_optimizer: keras.optimizers.Optimizer | None = None


def build_networks(config: Config, *, scale: int) -> Networks:
    """The networks at step 0. Call it inside the strategy's scope.

    The weights depend on the configuration's seed alone.
    """
    keras.config.set_dtype_policy(config.precision)
    if config.precision == "float64":
        keras.config.set_floatx("float64")
    keras.utils.set_random_seed(config.seed)
    network = generator(scale=scale, **config.generator.model_dump())
    if not config.trains_discriminator:
        return Networks(network, None)
    return Networks(
        network,
        discriminator(hr_crop=config.batch.hr_crop, **config.discriminator.model_dump()),
    )


def begin_phase(networks: Networks, phase: PhaseConfig, *, steps: int) -> TrainState:
    """The state at a phase's first step: the networks as they are, new optimizers.

    Call it inside the strategy's scope.

    Args:
        networks: As the phase before left them.
        phase: Its losses and learning rate.
        steps: Its length.
    """
    state = TrainState(networks.generator, _optimizer(networks.generator, phase, steps))
    if not phase.losses.adversarial:
        return state
    assert networks.discriminator is not None
    return state._replace(
        discriminator=networks.discriminator,
        discriminator_optimizer=_optimizer(networks.discriminator, phase, steps),
    )


def _optimizer(network: keras.Model, phase: PhaseConfig, steps: int) -> keras.optimizers.Optimizer:
    schedules = keras.optimizers.schedules
    rate = phase.learning_rate
    schedule: Any = rate.initial
    if rate.decay == "cosine":
        schedule = schedules.CosineDecay(rate.initial, steps)
    elif rate.decay == "drop":
        schedule = schedules.PiecewiseConstantDecay(
            [(steps + 1) // 2 - 1], [rate.initial, rate.initial / 10]
        )
    optimizer = keras.optimizers.Adam(schedule, beta_1=0.9)
    optimizer.build(network.trainable_variables)
    return optimizer


class CallResult(NamedTuple):
    """What the steps of one call gave.

    Attributes:
        terms: Means over the steps and the global batch, float64: every loss term before its
            weight; `generator_loss`, the weighted sum; in a phase with a discriminator
            `discriminator_loss`, `d_hr` and `d_sr` (its mean probabilities of "real");
            `shift_red`, `shift_green`, `shift_blue`: mean SR minus mean LR in [0, 1].
        data_wait: Seconds that the steps waited for data.
    """

    terms: dict[str, tf.Tensor]
    data_wait: tf.Tensor


TrainCall = Callable[[Iterator[Any], tf.Tensor], CallResult]


def make_train_call(
    strategy: tf.distribute.Strategy,
    state: TrainState,
    weights: LossWeights,
    *,
    global_batch: int,
    extractors: Mapping[str, FeatureExtractor],
) -> TrainCall:
    """Compiles a phase's step.

    The generator and the discriminator are updated at the same time, from one forward pass of
    each: the adversarial gradient goes through the discriminator as it was before the step.

    Args:
        strategy: Runs the step on every replica.
        state: What the step updates.
        weights: The generator's loss.
        global_batch: Divides the losses; Keras's optimizers sum the gradients of the replicas.
        extractors: By term, those that `weights` needs.

    Returns:
        A function (distributed iterator of uint8 LR/HR, number of steps) -> CallResult.
    """
    dtype = state.generator.output.dtype
    names = _term_names(weights)
    factors = weights.active
    pixel_terms = _pixel_terms(extractors)

    def replica_step(lr: tf.Tensor, hr: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = tf.cast(lr, dtype) / 255
        targets = tf.cast(hr, dtype) / 127.5 - 1
        with tf.GradientTape(persistent=state.discriminator is not None) as tape:
            sr = state.generator(inputs, training=True)
            terms = {
                name: term(targets, sr) for name, term in pixel_terms.items() if name in factors
            }
            probabilities = {}
            if state.discriminator:
                hr_logits = state.discriminator(targets, training=True)
                sr_logits = state.discriminator(sr, training=True)
                terms["adversarial"] = losses.adversarial(sr_logits)
                probabilities = {"d_hr": tf.sigmoid(hr_logits), "d_sr": tf.sigmoid(sr_logits)}
                discrimination = (
                    tf.reduce_sum(losses.discrimination(hr_logits, sr_logits)) / global_batch
                )
            means = {name: tf.reduce_sum(term) / global_batch for name, term in terms.items()}
            loss = tf.add_n([factors[name] * tf.cast(mean, dtype) for name, mean in means.items()])
        _apply(tape, loss, state.generator, state.generator_optimizer)
        means |= {"generator_loss": loss}
        if state.discriminator:
            assert state.discriminator_optimizer is not None
            _apply(tape, discrimination, state.discriminator, state.discriminator_optimizer)
            means["discriminator_loss"] = discrimination
        means |= {
            name: tf.reduce_sum(values) / global_batch for name, values in probabilities.items()
        }
        shift = tf.reduce_mean((sr + 1) / 2, (1, 2)) - tf.reduce_mean(inputs, (1, 2))
        for channel, name in enumerate(("shift_red", "shift_green", "shift_blue")):
            means[name] = tf.reduce_sum(shift[:, channel]) / global_batch
        return {name: tf.cast(value, tf.float64) for name, value in means.items()}

    def train_call(iterator: Iterator[Any], steps: tf.Tensor) -> CallResult:
        totals = {name: tf.zeros((), tf.float64) for name in names}
        waited = tf.zeros((), tf.float64)
        for _ in tf.range(steps):
            asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                batch = next(iterator)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += tf.timestamp() - asked
            terms = strategy.run(replica_step, args=batch)
            totals = {
                name: total + strategy.reduce(tf.distribute.ReduceOp.SUM, terms[name], axis=None)
                for name, total in totals.items()
            }
        count = tf.cast(steps, tf.float64)
        return CallResult({name: total / count for name, total in totals.items()}, waited)

    compiled: TrainCall = tf.function(train_call)
    return compiled


def shown_terms(weights: LossWeights) -> list[str]:
    """The terms that a progress line has room for."""
    return [*weights.active, *(("d_hr", "d_sr") if weights.adversarial else ())]


def _term_names(weights: LossWeights) -> list[str]:
    """The names of CallResult's terms in a phase with these losses."""
    names = [*weights.active, "generator_loss"]
    if weights.adversarial:
        names += ["discriminator_loss", "d_hr", "d_sr"]
    return [*names, "shift_red", "shift_green", "shift_blue"]


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


def _apply(
    tape: tf.GradientTape,
    loss: tf.Tensor,
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
) -> None:
    variables = network.trainable_variables
    optimizer.apply(tape.gradient(loss, variables), variables)
