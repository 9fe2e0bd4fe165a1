"""The networks and optimizers that training changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np

from srgan.config import Config, PhaseConfig, Precision
from srgan.networks import discriminator, generator
from srgan.training.adam import FusedAdam
from srgan.training.batch_norm import SyncBatchNormalization
from srgan.training.checkpoint import Arrays
from srgan.training.failures import DamagedCheckpointError
from srgan.training.schedule import rate_of, rate_schedule


class Networks(NamedTuple):
    """What the phases of a run share.

    Attributes:
        generator: What is trained.
        average: A generator whose variables are the moving average of the trained one's, or None.
        discriminator: None where no phase trains it.
    """

    generator: keras.Model
    average: keras.Model | None
    discriminator: keras.Model | None


class TrainState(NamedTuple):
    """Everything that a phase changes. Its variables are what a checkpoint holds.

    The discriminator is None where no phase trains it; its optimizer, in a phase that does not.
    """

    generator: keras.Model
    generator_optimizer: FusedAdam
    average: keras.Model | None
    discriminator: keras.Model | None
    discriminator_optimizer: FusedAdam | None


@contextmanager
def dtype_policy(precision: Precision) -> Iterator[None]:
    """What the block builds and compiles computes in this precision."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_dtype_policy(precision)
    keras.config.set_floatx("float64" if precision == "float64" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_floatx(floatx)


def build_networks(config: Config, *, scale: int) -> Networks:
    """The networks at step 0. Call it inside the strategy's scope.

    The weights depend on the configuration's seed alone, their types on `dtype_policy`.
    """
    keras.utils.set_random_seed(config.seed)
    normalised: dict[str, Any] = {"normalisation": SyncBatchNormalization}
    network = generator(scale=scale, **config.generator.model_dump(), **normalised)
    opponent = None
    if config.trains_discriminator:
        opponent = discriminator(
            hr_crop=config.batch.hr_crop, **config.discriminator.model_dump(), **normalised
        )
    average = None
    if config.generator_average:
        average = generator(scale=scale, **config.generator.model_dump(), **normalised)
        average.set_weights(network.get_weights())
    return Networks(network, average, opponent)


def begin_phase(networks: Networks, phase: PhaseConfig, *, steps: int) -> TrainState:
    """The state at a phase's first step: the networks as they are, new optimizers.

    Call it inside the strategy's scope.

    Args:
        networks: As the phase before left them.
        phase: Its losses and learning rate.
        steps: Its length.
    """
    optimizer = None
    if phase.losses.adversarial:
        assert networks.discriminator is not None
        optimizer = _optimizer(networks.discriminator, phase, steps)
    return TrainState(
        generator=networks.generator,
        generator_optimizer=_optimizer(networks.generator, phase, steps),
        average=networks.average,
        discriminator=networks.discriminator,
        discriminator_optimizer=optimizer,
    )


def _optimizer(network: keras.Model, phase: PhaseConfig, steps: int) -> FusedAdam:
    schedule = rate_schedule(phase.learning_rate, steps)
    # With a fixed name: Keras's own would count the phases that this process has begun.
    optimizer = FusedAdam(schedule, beta_1=0.9, name=f"{network.name}_adam")
    optimizer.build(network.trainable_variables)
    return optimizer


def last_rate(state: TrainState, phase: PhaseConfig, *, steps: int) -> float:
    """The learning rate of the phase's last update; before the first one, that of the first."""
    updates = int(keras.ops.convert_to_numpy(state.generator_optimizer.iterations))
    return rate_of(phase.learning_rate, steps, max(0, updates - 1))


def state_arrays(state: TrainState) -> Arrays:
    """Copies of all variables by part and position: weights, BN statistics, optimizer slots.

    They are real copies: TensorFlow may write to the memory that `numpy()` shows.
    """
    return {
        f"{part}/{number:04}": np.array(keras.ops.convert_to_numpy(variable))
        for part, owner in state._asdict().items()
        if owner is not None
        for number, variable in enumerate(owner.variables)
    }


def set_state(state: TrainState, arrays: Arrays, where: str) -> None:
    """Sets the state's variables; `where` names the arrays' origin.

    Raises:
        DamagedCheckpointError: If the arrays are another network's; the state is unchanged.
    """
    expected = {key: value.shape for key, value in state_arrays(state).items()}
    if {key: value.shape for key, value in arrays.items()} != expected:
        raise DamagedCheckpointError(f"{where}: holds the variables of another network")
    for part, owner in state._asdict().items():
        if owner is not None:
            for number, variable in enumerate(owner.variables):
                variable.assign(arrays[f"{part}/{number:04}"])
