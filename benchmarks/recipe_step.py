"""A step of the recommended recipe and of its rivals under Keras's JAX backend.

The update is that of `srgan/training/step.py`: Adam, and the generator's moving average. What only
rivals have is here: Charbonnier, R1, VGG16's features as a content loss, parts of LPIPS, smooth HR.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
from jax import lax

from benchmarks.jax_step import crops
from benchmarks.unet import unet_discriminator
from srgan import losses
from srgan.lpips import features, lpips
from srgan.networks import discriminator, generator

State = dict[str, Any]
Factors = dict[str, Any]

# Charbonnier's epsilon: 1e-3 of the range of values (Lai et al. 2017, section 3.2).
_EPSILON = 2e-3
_BETAS = (0.9, 0.999)
_TRUNK, _STAGES = "VGG16", 5


class Program(NamedTuple):
    """What is compiled. Weights of losses, rates and first weights are inputs.

    Attributes:
        global_skip: The generator's; without it SR is a tanh.
        discriminator: `patch`, `unet`, or "" for none.
        charbonnier: In place of L1.
        perceptual: Losses of VGG16's features.
        r1: The gradient penalty.
    """

    global_skip: bool = True
    discriminator: str = ""
    charbonnier: bool = False
    perceptual: bool = False
    r1: bool = False


def factors(
    *,
    pixel: float = 0,
    lpips: float = 0,
    stages: Any = (1, 1, 1, 1, 1),
    content: Any = (0, 0, 0, 0, 0),
    adversarial: float = 0,
    r1: float = 0,
    smooth: float = 0,
) -> Factors:
    """The weights of a run's losses, float32.

    Args:
        pixel: Of L1 or Charbonnier.
        lpips: Of LPIPS.
        stages: A factor for each of LPIPS's five stages.
        content: Weights of the mean squared differences of each stage's last output.
        adversarial: Of the adversarial loss.
        r1: Gamma of R1.
        smooth: Share of a 5x5 binomial low pass in the HR of the loss, 0 to 1.
    """
    given = locals()
    return {name: jnp.asarray(value, "float32") for name, value in given.items()}


class Recipe:
    """The networks of a program, and its step.

    Attributes:
        generator: The Keras model.
        program: As given.
    """

    def __init__(self, program: Program, sizes: Mapping[str, Any], *, hr_crop: int) -> None:
        """Builds them in the current dtype policy.

        Args:
            program: What is compiled.
            sizes: Arguments of `generator` and `discriminator`, by their names.
            hr_crop: HR crop side in pixels.
        """
        self.program, self._sizes, self._hr_crop = program, sizes, hr_crop
        self.generator = self._generator()
        self._discriminator = self._opponent()

    def _generator(self, **options: Any) -> keras.Model:
        given = {**self._sizes["generator"], "global_skip": self.program.global_skip}
        return generator(**{**given, **options})

    def _opponent(self) -> keras.Model | None:
        sizes = self._sizes["discriminator"]
        if self.program.discriminator == "unet":
            return unet_discriminator(hr_crop=self._hr_crop, filters=sizes["filters"])
        if self.program.discriminator == "patch":
            return discriminator(hr_crop=self._hr_crop, **sizes)
        return None

    def state(self, seed: int, weights: Any = None, **options: Any) -> State:
        """The state before the first step.

        Args:
            seed: Determines the initial weights.
            weights: The generator's, if it is trained already.
            options: The generator's that change nothing but its first weights.
        """
        keras.utils.set_random_seed(seed)
        first = weights or _values(self._generator(**options))
        state = {"generator": _learner(first), "average": first, "updates": jnp.zeros((), "int32")}
        if opponent := self._opponent():
            state["discriminator"] = _learner(_values(opponent))
        return state

    def step(
        self, state: State, batch: tuple[Any, Any], rate: Any, factors: Factors, frozen: Any
    ) -> tuple[State, dict[str, Any]]:
        """One step.

        Args:
            state: Before it.
            batch: LR uint8 [N, h, w, 3] and HR uint8 [N, H, W, 3].
            rate: Adam's learning rate.
            factors: Of `factors`.
            frozen: VGG16's arrays and LPIPS's heads, if the program needs them.

        Returns:
            The state after it; and the generator's loss, with a discriminator its mean
            probabilities of "real" too.
        """
        lr = batch[0].astype("float32") / 255
        hr = batch[1].astype("float32") / 127.5 - 1
        opponent = state["discriminator"]["weights"] if self._discriminator else None

        def loss(weights: Any) -> tuple[Any, Any]:
            sr = _apply(self.generator, weights, lr)
            total = factors["pixel"] * self._pixel(hr, sr)
            if self.program.perceptual:
                total += _perceptual(hr, sr, factors, frozen)
            if opponent is not None:
                logits = _apply(self._discriminator, opponent, sr)
                total += factors["adversarial"] * losses.adversarial(logits)
            return jnp.mean(total), sr

        (value, sr), gradient = jax.value_and_grad(loss, has_aux=True)(
            state["generator"]["weights"]
        )
        updates = state["updates"] + 1
        new = {
            "generator": _adam(state["generator"], gradient, updates, rate),
            "updates": updates,
        }
        decay = jnp.minimum(0.999, (1.0 + updates) / (10.0 + updates))
        new["average"] = [
            decay * average + (1 - decay) * one
            for average, one in zip(state["average"], new["generator"]["weights"], strict=True)
        ]
        seen = {"loss": value}
        if opponent is not None:
            gradient, answers = jax.grad(self._discriminator_loss, has_aux=True)(
                opponent, lax.stop_gradient(sr), hr, factors["r1"]
            )
            new["discriminator"] = _adam(state["discriminator"], gradient, updates, rate)
            seen |= answers
        return new, seen

    def _pixel(self, hr: Any, sr: Any) -> Any:
        if not self.program.charbonnier:
            return losses.pixel_l1(hr, sr)
        return jnp.mean(jnp.sqrt(jnp.square(hr - sr) + _EPSILON**2), axis=(1, 2, 3))

    def _discriminator_loss(
        self, weights: Any, sr: Any, hr: Any, gamma: Any
    ) -> tuple[Any, dict[str, Any]]:
        hr_logits, sr_logits = (_apply(self._discriminator, weights, one) for one in (hr, sr))
        loss = jnp.mean(losses.discriminator(hr_logits, sr_logits))
        if self.program.r1:
            loss += gamma * self._r1(weights, hr)
        answers = {"d_hr": hr_logits, "d_sr": sr_logits}
        return loss, {name: jnp.mean(jax.nn.sigmoid(one)) for name, one in answers.items()}

    def _r1(self, weights: Any, hr: Any) -> Any:
        """R1 (Mescheder et al. 2018, eq. 9) before gamma, of a discriminator with many logits.

        Half the squared gradient of the sum of an image's logits, divided by their number: that of
        one logit, where those of different logits do not correlate.
        """

        def total(images: Any) -> tuple[Any, int]:
            logits = _apply(self._discriminator, weights, images)
            return jnp.sum(logits), logits[0].size

        gradient, count = jax.grad(total, has_aux=True)(hr)
        return jnp.mean(jnp.sum(jnp.square(gradient), axis=(1, 2, 3))) / (2 * count)

    def steps(
        self, states: State, images: Any, plan: tuple[Any, Any], factors: Factors, frozen: Any
    ) -> tuple[State, dict[str, Any]]:
        """Steps of several seeds side by side; compile it with `jax.jit`.

        Args:
            states: Of `state`, stacked.
            images: LR uint8 [images, h, w, 3] and HR uint8 [images, H, W, 3].
            plan: int32 [steps, seeds, N, 4], image, row, column of an LR crop, and its turn; and
                the learning rates [steps].
            factors: Of `factors`.
            frozen: As for `step`.

        Returns:
            The states after them, and what `step` returns of each: [steps, seeds].
        """
        scale = images[1].shape[1] // images[0].shape[1]

        def body(states: State, inputs: tuple[Any, Any]) -> tuple[State, Any]:
            corners, rate = inputs

            def one(state: State, corners: Any) -> tuple[State, Any]:
                batch = crops(images, corners[:, :3], self._hr_crop // scale)
                turned = tuple(jax.vmap(_turned)(part, corners[:, 3]) for part in batch)
                return self.step(state, turned, rate, factors, frozen)

            after: tuple[State, Any] = jax.vmap(one)(states, corners)
            return after

        result: tuple[State, dict[str, Any]] = lax.scan(body, states, plan)
        return result


def _values(network: keras.Model) -> list[Any]:
    assert not network.non_trainable_variables  # there is no batch normalisation here
    return [jnp.asarray(variable.value) for variable in network.trainable_variables]


def _apply(network: keras.Model, weights: Any, images: Any) -> Any:
    return network.stateless_call(weights, [], images, training=True)[0]


def _learner(weights: list[Any]) -> State:
    zeros = [jnp.zeros_like(one) for one in weights]
    return {"weights": weights, "first": zeros, "second": zeros}


def _adam(learner: State, gradient: list[Any], updates: Any, rate: Any) -> State:
    """Adam (Kingma and Ba 2015, the efficient order of section 2) with Keras's epsilon."""
    updates = updates.astype("float32")
    size = rate * jnp.sqrt(1 - _BETAS[1] ** updates) / (1 - _BETAS[0] ** updates)
    first, second = (
        [beta * old + (1 - beta) * new for old, new in zip(olds, news, strict=True)]
        for beta, olds, news in (
            (_BETAS[0], learner["first"], gradient),
            (_BETAS[1], learner["second"], [jnp.square(one) for one in gradient]),
        )
    )
    moments = zip(learner["weights"], first, second, strict=True)
    weights = [one - size * mean / (jnp.sqrt(square) + 1e-7) for one, mean, square in moments]
    return {"weights": weights, "first": first, "second": second}


def _perceptual(hr: Any, sr: Any, factors: Factors, frozen: Any) -> Any:
    """LPIPS with a factor for each stage, plus mean squared differences of features: [N]."""
    hr = hr + factors["smooth"] * (_smooth(hr) - hr)
    heads = [f"NetLinLayer_{stage}.Conv_0.kernel" for stage in range(_STAGES)]
    scaled = {name: factors["stages"][stage] * frozen[name] for stage, name in enumerate(heads)}
    dtype = str(frozen[f"{_TRUNK}_0.Conv_0.kernel"].dtype)
    total = factors["lpips"] * lpips(hr, sr, {**frozen, **scaled}, _TRUNK, dtype)
    pairs = zip(*(features(one, frozen, _TRUNK, dtype) for one in (hr, sr)), strict=True)
    for weight, (one, other) in zip(factors["content"], pairs, strict=True):
        total += weight * losses.content(one, other)
    return total


def _smooth(images: Any) -> Any:
    """[N, H, W, 3] with the low pass 1 4 6 4 1, upright and level; edges are repeated."""
    padded = jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    taps = [weight / 16 for weight in (1, 4, 6, 4, 1)]
    height, width = images.shape[1:3]
    rows = sum(tap * padded[:, i : i + height] for i, tap in enumerate(taps))
    return sum(tap * rows[:, :, i : i + width] for i, tap in enumerate(taps))


def _turned(image: Any, turn: Any) -> Any:
    """[side, side, 3] in one of its eight positions; `turn` is from 0 to 7."""
    image = jnp.where(turn & 1, image[:, ::-1], image)
    image = jnp.where(turn & 2, image[::-1], image)
    return jnp.where(turn & 4, image.transpose(1, 0, 2), image)
