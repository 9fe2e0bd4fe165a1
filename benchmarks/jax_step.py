"""The product's networks and losses under Keras's JAX backend: a whole step in one compiled call.

The update is that of `srgan/training/step.py`. TensorFlow's CUDA packages are not needed for it.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
from jax import lax

from srgan import losses
from srgan.networks import discriminator, generator
from srgan.vgg import FeatureExtractor

State = dict[str, Any]


class Trainer:
    """Two networks, their optimizers, and one compiled call that trains many steps.

    Attributes:
        generator: The Keras model.
        discriminator: Likewise; None where the adversarial weight is 0.
        state: The arrays that a step changes.
    """

    def __init__(
        self,
        *,
        sizes: Mapping[str, Any],
        hr_crop: int,
        losses: Mapping[str, float],
        rate: float,
        extractors: Mapping[str, FeatureExtractor],
        seed: int,
    ) -> None:
        """Builds them in the current dtype policy.

        Args:
            sizes: Arguments of `generator` and `discriminator`, by their names.
            hr_crop: HR crop side in pixels.
            losses: Weights of `mse`, of extractors by their names, and of `adversarial`.
            rate: Adam's learning rate.
            extractors: By name.
            seed: Determines the initial weights.
        """
        keras.utils.set_random_seed(seed)
        self._hr_crop = hr_crop
        self._weights, self._extractors = dict(losses), extractors
        self.generator = generator(**sizes["generator"])
        networks = {"generator": self.generator}
        self.discriminator = None
        if losses.get("adversarial"):
            self.discriminator = discriminator(hr_crop=hr_crop, **sizes["discriminator"])
            networks["discriminator"] = self.discriminator
        self._networks = networks
        self._adams = {}
        self.state: State = {}
        for name, network in networks.items():
            adam = keras.optimizers.Adam(rate, beta_1=0.9)
            adam.build(network.trainable_variables)
            self._adams[name] = adam
            self.state[name] = tuple(
                [variable.value for variable in owner]
                for owner in (
                    network.trainable_variables,
                    network.non_trainable_variables,
                    adam.variables,
                )
            )

    def step(self, state: State, batch: tuple[Any, Any]) -> tuple[State, Any]:
        """One step.

        Args:
            state: Before it.
            batch: LR uint8 [N, h, w, 3] and HR uint8 [N, H, W, 3].

        Returns:
            The state after it, and the generator's loss, float32.
        """
        lr = batch[0].astype("float32") / 255
        hr = batch[1].astype("float32") / 127.5 - 1
        weights, statistics, slots = state["generator"]

        def forward(weights: Any) -> Any:
            return self.generator.stateless_call(weights, statistics, lr, training=True)

        sr, back, new_statistics = jax.vjp(forward, weights, has_aux=True)
        loss, sr_gradient = jax.value_and_grad(self._generator_loss)(sr, hr, state)
        (gradient,) = back(sr_gradient)
        new = {"generator": self._update("generator", gradient, weights, new_statistics, slots)}
        if self.discriminator is not None:
            opponent, opponent_statistics, opponent_slots = state["discriminator"]
            gradient, new_statistics = jax.grad(self._discriminator_loss, has_aux=True)(
                opponent, opponent_statistics, lax.stop_gradient(sr), hr
            )
            new["discriminator"] = self._update(
                "discriminator", gradient, opponent, new_statistics, opponent_slots
            )
        return new, loss

    def _generator_loss(self, sr: Any, hr: Any, state: State) -> Any:
        total = jnp.zeros((), "float32")
        for name, weight in self._weights.items():
            if name == "mse":
                term = losses.pixel_mse(hr, sr)
            elif name == "adversarial":
                assert self.discriminator is not None
                opponent, statistics, _ = state["discriminator"]
                # After HR, as in the discriminator's own loss; only the logits are used.
                logits, _ = self.discriminator.stateless_call(
                    opponent, statistics, sr, training=True
                )
                term = losses.adversarial(logits)
            else:
                extractor = self._extractors[name]
                term = losses.content(extractor(hr), extractor(sr))
            total += weight * jnp.mean(term)
        return total

    def _discriminator_loss(
        self, weights: Any, statistics: Any, sr: Any, hr: Any
    ) -> tuple[Any, Any]:
        assert self.discriminator is not None
        hr_logits, statistics = self.discriminator.stateless_call(
            weights, statistics, hr, training=True
        )
        sr_logits, statistics = self.discriminator.stateless_call(
            weights, statistics, sr, training=True
        )
        return jnp.mean(losses.discriminator(hr_logits, sr_logits)), statistics

    def _update(
        self, name: str, gradient: Any, weights: Any, statistics: Any, slots: Any
    ) -> tuple[Any, Any, Any]:
        weights, slots = self._adams[name].stateless_apply(slots, gradient, weights)
        return weights, statistics, slots

    def lower_steps(self, images: tuple[Any, Any], corners: Any) -> Any:
        """Many steps in one function, traced but not compiled.

        The batches are cut on the device. A batch that stays the same would let XLA take its
        features out of the loop.

        Args:
            images: LR uint8 [images, h, w, 3] and HR uint8 [images, h * scale, w * scale, 3].
            corners: int32 [steps, N, 3]: image, row and column of each LR crop.

        Returns:
            What `compile()` makes a function of: (state, images, corners) -> (state, losses
            [steps]). The state is given away.
        """
        scale = images[1].shape[1] // images[0].shape[1]

        def steps(state: State, images: tuple[Any, Any], corners: Any) -> tuple[State, Any]:
            def body(state: State, chosen: Any) -> tuple[State, Any]:
                return self.step(state, crops(images, chosen, self._hr_crop // scale))

            result: tuple[State, Any] = lax.scan(body, state, corners)
            return result

        return jax.jit(steps, donate_argnums=0).lower(self.state, images, corners)

    def upscale(self, weights: Any, lr: Any) -> Any:
        """SR float32 [N, H, W, 3] in [-1, 1] of LR uint8, by a state's weights and statistics."""
        inputs = jnp.asarray(lr).astype("float32") / 255
        return self.generator.stateless_call(*weights, inputs, training=False)[0]


def crops(images: tuple[Any, Any], corners: Any, side: int) -> tuple[Any, Any]:
    """LR [N, side, side, 3] and HR crops of images [images, h, w, 3] that lie on the device.

    Args:
        images: LR and HR.
        corners: int32 [N, 3]: image, row and column of each LR crop.
        side: Of the LR crops, in pixels.
    """
    scale = images[1].shape[1] // images[0].shape[1]

    def cut(one: Any, factor: int, corner: Any) -> Any:
        number, row, column = corner[0], corner[1] * factor, corner[2] * factor
        size = (1, side * factor, side * factor, 3)
        return lax.dynamic_slice(one, (number, row, column, 0), size)[0]

    lr, hr = (
        jax.vmap(partial(cut, one, factor))(corners)
        for one, factor in zip(images, (1, scale), strict=True)
    )
    return lr, hr
