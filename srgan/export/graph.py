"""A generator as a list of plain operations with float32 weights. No runtime's format is in it."""

from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from data_pipeline.platform.errors import UserError
from srgan.networks import BilinearUpscaling, PixelShuffle

Floats = npt.NDArray[np.float32]


class Op(NamedTuple):
    """One operation on tensors [N, h, w, C].

    Attributes:
        kind: `conv`: same padding and a bias; `prelu`: a slope for each channel; `add`;
            `pixel_shuffle`; `bilinear`: half-pixel centres, edges repeated; `affine`: x * a + b;
            `tanh`.
        inputs: Names of the tensors that it takes; the generator's input is `lr`.
        output: Name of the tensor that it makes: `generator/LAYER`; the last operation's is SR.
        weights: `conv`: the kernel [k, k, in, out] and the bias [out]; `prelu`: slopes [C];
            `affine`: a and b, scalars; else none.
        factor: What `pixel_shuffle` and `bilinear` enlarge by, else 1.
    """

    kind: Literal["conv", "prelu", "add", "pixel_shuffle", "bilinear", "affine", "tanh"]
    inputs: tuple[str, ...]
    output: str
    weights: tuple[Floats, ...] = ()
    factor: int = 1


def operations(generator: keras.Model) -> list[Op]:
    """The operations of a generator in the order in which they run.

    Batch normalisation is in the convolution before it: y = g (x - m) / sqrt(v + e) + b is linear
    in x. It is computed in float64 and rounded once.

    Args:
        generator: Of layers that `srgan.networks.generator` uses; maps LR in [0, 1] to SR in
            [-1, 1].

    Raises:
        UserError: If it has another layer, or batch normalisation that follows no convolution.
    """
    # A clone: tiling makes models of the same layers, and then a layer has several inputs.
    network = keras.models.clone_model(generator)
    network.set_weights(generator.get_weights())
    ops: list[Op] = []
    names = {id(network.input): "lr"}
    for layer in network.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        taken = tuple(names[id(one)] for one in inputs)
        if isinstance(layer, keras.layers.BatchNormalization):
            if not (ops and ops[-1].kind == "conv" and taken == (ops[-1].output,)):
                raise UserError(f"{generator.name}: its layer {layer.name} follows no convolution")
            ops[-1] = _normalised(ops[-1], layer)
            names[id(layer.output)] = ops[-1].output
            continue
        ops.append(_op(layer, taken, generator.name))
        names[id(layer.output)] = ops[-1].output
    return ops


def _op(layer: keras.Layer, inputs: tuple[str, ...], generator: str) -> Op:  # noqa: PLR0911
    op = Op("add", inputs, f"generator/{layer.name}")
    weights = tuple(np.asarray(one, np.float32) for one in layer.get_weights())
    match layer:
        case keras.layers.Add():
            return op
        case keras.layers.Conv2D():
            return op._replace(kind="conv", weights=weights)
        case keras.layers.PReLU():
            return op._replace(kind="prelu", weights=(weights[0].reshape(-1),))
        case PixelShuffle():
            return op._replace(kind="pixel_shuffle", factor=layer.factor)
        case BilinearUpscaling():
            return op._replace(kind="bilinear", factor=layer.factor)
        case keras.layers.Rescaling():
            gain, offset = np.float32(layer.scale), np.float32(layer.offset)
            return op._replace(kind="affine", weights=(gain, offset))
        case keras.layers.Activation() if layer.activation is keras.activations.tanh:
            return op._replace(kind="tanh")
    raise UserError(f"{generator}: has a layer {type(layer).__name__}: cannot be exported")


def _normalised(conv: Op, layer: Any) -> Op:
    """A convolution with the batch normalisation that follows it."""
    gamma, beta, mean, variance = (np.asarray(one, np.float64) for one in layer.get_weights())
    kernel, bias = (one.astype(np.float64) for one in conv.weights)
    gain = gamma / np.sqrt(variance + layer.epsilon)
    folded = kernel * gain, (bias - mean) * gain + beta
    return conv._replace(weights=tuple(one.astype(np.float32) for one in folded))
