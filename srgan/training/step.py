"""One training step on every replica, and several of them in one compiled call."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from srgan.config import Config
from srgan.losses import pixel_mse
from srgan.networks import generator


class TrainState(NamedTuple):
    """Everything that training changes. Its variables are what a checkpoint holds."""

    generator: keras.Model
    optimizer: keras.optimizers.Optimizer


def build_state(config: Config, *, scale: int, total_steps: int) -> TrainState:
    """Networks and optimizers at step 0. Call it inside the strategy's scope.

    The weights depend on the configuration's seed alone.
    """
    keras.config.set_dtype_policy(config.precision)
    if config.precision == "float64":
        keras.config.set_floatx("float64")
    keras.utils.set_random_seed(config.seed)
    network = generator(scale=scale, **config.generator.model_dump())
    rate = config.pretrain.learning_rate
    schedule = (
        keras.optimizers.schedules.CosineDecay(rate.initial, total_steps)
        if rate.decay == "cosine"
        else rate.initial
    )
    optimizer = keras.optimizers.Adam(schedule, beta_1=0.9)
    optimizer.build(network.trainable_variables)
    return TrainState(network, optimizer)


class CallResult(NamedTuple):
    """What the steps of one call gave: their mean loss, and the seconds they waited for data."""

    loss: tf.Tensor
    data_wait: tf.Tensor


TrainCall = Callable[[Iterator[Any], tf.Tensor], CallResult]


def make_train_call(
    strategy: tf.distribute.Strategy, state: TrainState, *, global_batch: int
) -> TrainCall:
    """Compiles the pretrain step (MSE, the paper's SRResNet).

    Args:
        strategy: Runs the step on every replica.
        state: What the step updates.
        global_batch: Divides the loss; Keras's optimizer sums the gradients of the replicas.

    Returns:
        A function (distributed iterator of uint8 LR/HR, number of steps) -> CallResult, float64.
    """

    def replica_step(lr: tf.Tensor, hr: tf.Tensor) -> tf.Tensor:
        dtype = state.generator.output.dtype
        inputs = tf.cast(lr, dtype) / 255
        targets = tf.cast(hr, dtype) / 127.5 - 1
        with tf.GradientTape() as tape:
            losses = pixel_mse(targets, state.generator(inputs, training=True))
            loss = tf.reduce_sum(losses) / global_batch
        variables = state.generator.trainable_variables
        state.optimizer.apply(tape.gradient(loss, variables), variables)
        return tf.cast(loss, tf.float64)

    def train_call(iterator: Iterator[Any], steps: tf.Tensor) -> CallResult:
        total = waited = tf.zeros((), tf.float64)
        for _ in tf.range(steps):
            asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                batch = next(iterator)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += tf.timestamp() - asked
            loss = strategy.run(replica_step, args=batch)
            total += strategy.reduce(tf.distribute.ReduceOp.SUM, loss, axis=None)
        return CallResult(total / tf.cast(steps, tf.float64), waited)

    compiled: TrainCall = tf.function(train_call)
    return compiled
