"""Engines that upscale by the same weights: what each needs, how its file is written and opened.

A process that opens one loads that engine alone, so that its memory is the engine's.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.images import Image

Upscale = Callable[[Image], Image]  # uint8 [h, w, 3] to uint8 [H, W, 3], RGB

_OPS = "operations.npz"


def write_engines(network: Any, folder: Path) -> None:
    """Writes what the engines open, beside the Keras file; those that have what they need."""
    from srgan.export.formats import FORMATS
    from srgan.export.graph import operations

    for name in ("saved_model", "onnx"):
        if is_there(name):
            (folder / name).mkdir()
            FORMATS[name].write(network, {}, folder / name)
    ops = operations(network)
    weights = {f"{op.output}:{i}": array for op in ops for i, array in enumerate(op.weights)}
    described = [(op.kind, op.inputs, op.output, len(op.weights), op.factor) for op in ops]
    np.savez(folder / _OPS, allow_pickle=False, ops=np.array(json.dumps(described)), **weights)


def is_there(engine: str) -> bool:
    """Whether its modules are installed."""
    return all(importlib.util.find_spec(module) for module in ENGINES[engine][0])


def open_engine(engine: str, weights: Path) -> Upscale:
    """Opens an engine on the generator of a Keras file, beside which the others are."""
    return ENGINES[engine][1](weights)


def _keras(weights: Path) -> Upscale:
    from srgan.trained import open_generator

    return open_generator(str(weights)).upscale


def _saved_model(weights: Path) -> Upscale:
    import tensorflow as tf

    folder = weights.parent / "saved_model"
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]

    def upscale(lr: Image) -> Image:
        sr: Image = serve(image=tf.constant(lr[None]))["sr"][0].numpy()
        return sr

    return upscale


def _onnx(weights: Path) -> Upscale:
    import onnxruntime

    session = onnxruntime.InferenceSession(weights.parent / "onnx" / "model.onnx")
    return lambda lr: session.run(None, {"image": lr[None]})[0][0]


def _torch(weights: Path) -> Upscale:
    import torch
    from torch.nn import functional

    torch.set_grad_enabled(False)  # nothing in this process trains
    with np.load(weights.parent / _OPS) as stored:
        ops = json.loads(str(stored["ops"]))
        arrays = {
            key: torch.from_numpy(
                # Keras has [k, k, in, out], PyTorch [out, in, k, k].
                np.ascontiguousarray(stored[key].transpose(3, 2, 0, 1))
                if stored[key].ndim == 4
                else stored[key]
            )
            for key in stored.files
            if key != "ops"
        }

    # Each takes the inputs, then the weights, then what to enlarge by.
    kinds: dict[str, Callable[..., Any]] = {
        "conv": lambda x, kernel, bias, _: functional.conv2d(x, kernel, bias, padding="same"),
        "prelu": lambda x, slopes, _: functional.prelu(x, slopes),
        "add": lambda x, y, _: x + y,
        "pixel_shuffle": _pixel_shuffle,
        "bilinear": lambda x, r: functional.interpolate(x, scale_factor=r, mode="bilinear"),
        "affine": lambda x, gain, offset, _: x * gain + offset,
        "tanh": lambda x, _: torch.tanh(x),
    }
    last_use = {name: at for at, (_, inputs, *_) in enumerate(ops) for name in inputs}

    def upscale(lr: Image) -> Image:
        tensors = {"lr": torch.from_numpy(lr[None]).permute(0, 3, 1, 2).float() / 255}
        for at, (kind, inputs, output, count, factor) in enumerate(ops):
            w = [arrays[f"{output}:{i}"] for i in range(count)]
            tensors[output] = kinds[kind](*(tensors[one] for one in inputs), *w, factor)
            for name in inputs:
                if last_use[name] == at:
                    tensors.pop(name, None)  # as a runtime does
        levels = torch.floor(tensors[output] * 127.5 + 128).clamp(0, 255).to(torch.uint8)
        sr: Image = levels[0].permute(1, 2, 0).contiguous().numpy()
        return sr

    return upscale


def _pixel_shuffle(x: Any, factor: int) -> Any:
    """PyTorch's own puts the channel before the position in a block; TensorFlow's does after."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, factor, factor, c // factor**2, h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * factor, w * factor)


# The modules that an engine needs, to write and to run, and what opens it.
ENGINES: dict[str, tuple[tuple[str, ...], Callable[[Path], Upscale]]] = {
    "keras": (("keras",), _keras),
    "saved_model": (("tensorflow",), _saved_model),
    "onnx": (("onnx", "onnxruntime"), _onnx),
    "torch": (("torch",), _torch),
}
