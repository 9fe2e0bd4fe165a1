"""Where VGG19's and LPIPS's weights come from, and the copies that a run keeps for its workers.

The driver calls this, so nothing here builds a layer: Keras would initialise every GPU.
"""

import io
from collections.abc import Iterator, Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage, open_file
from srgan import KERAS_FOLDER, lpips_layers, vgg_layers
from srgan.config import Config, needed_extractors
from srgan.run_layout import LPIPS_KEY, VGG_KEY
from srgan.vgg_layers import Weights, check_weights

IMAGENET = "imagenet"

# The file that keras.applications.VGG19(include_top=False) downloads, and its MD5.
_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
_MD5 = "253f8cb515780f3b799900260a226db6"

_VGG_FIX = "pass a .npz or .h5 file with Keras's VGG19 weights as vgg_weights"
_LPIPS_FIX = "pass a .npz file with LPIPS's VGG16 weights as lpips_weights, see docs/train.md"


def provide_weights(config: Config, run: Storage) -> None:
    """Puts the arrays that a run's losses need into RUN, once. Workers and resumes read them.

    Raises:
        UserError: If a source is missing, damaged or lacks an array.
    """
    names = needed_extractors(config)
    if names and run.size(VGG_KEY) is None:
        shapes = {str(name): vgg_layers.weight_shapes(name) for name in names}
        source = _download() if config.vgg_weights == IMAGENET else config.vgg_weights
        run.write(VGG_KEY, _needed_arrays(source, shapes, _VGG_FIX))
    if config.needs_lpips and run.size(LPIPS_KEY) is None:
        assert config.lpips_weights is not None  # the driver has checked that
        shapes = {"lpips": lpips_layers.weight_shapes("VGG16")}
        run.write(LPIPS_KEY, _needed_arrays(config.lpips_weights, shapes, _LPIPS_FIX))


def read_vgg_weights(run: Storage, key: str = VGG_KEY) -> Weights:
    """Reads one of RUN's copies: float32 arrays by name."""
    return _from_npz(run.read(key))


def _needed_arrays(
    source: str, shapes: Mapping[str, Mapping[str, tuple[int, ...]]], fix: str
) -> bytes:
    """A .npz file of the arrays of these shapes, given by the loss that needs them and by name."""
    try:
        weights = _read(source)
        for name, one in shapes.items():
            check_weights(weights, one, name)
    except ValueError as error:
        raise UserError(f"{source}: {error}; {fix}") from error
    needed: dict[str, Any] = {key: weights[key] for one in shapes.values() for key in one}
    buffer = io.BytesIO()
    np.savez(buffer, **needed)
    return buffer.getvalue()


def _read(source: str) -> Weights:
    """All arrays of a source; raises ValueError where it cannot be read."""
    storage, name = open_file(source)
    try:
        data = storage.read(name)
    except OSError as error:
        raise ValueError(f"does not read: {error.strerror}") from error
    try:
        return _from_npz(data) if name.endswith(".npz") else _from_h5(data)
    except (ValueError, OSError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ValueError(f"is no file of weights ({error})") from error


def _from_npz(data: bytes) -> Weights:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name], np.float32) for name in arrays.files}


def _from_h5(data: bytes) -> Weights:
    """Keras's own file: a group for each layer that holds its kernel and bias, under any names."""
    import h5py

    weights = {}
    with h5py.File(io.BytesIO(data), "r") as file:
        for layer, group in file.items():
            for array in _arrays(group):
                weights[f"{layer}/{'kernel' if array.ndim == 4 else 'bias'}"] = array
    return weights


def _arrays(group: Any) -> Iterator[Any]:
    for item in group.values():
        if hasattr(item, "values"):
            yield from _arrays(item)
        else:
            yield np.asarray(item, np.float32)


def _download() -> str:
    """The path of the file that Keras has downloaded, or downloads now, to ~/.keras/models."""
    import keras

    try:
        path: str = keras.utils.get_file(
            origin=_URL, file_hash=_MD5, cache_subdir="models", cache_dir=KERAS_FOLDER
        )
    except Exception as error:  # Keras raises a plain Exception where there is no network
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"vgg_weights {IMAGENET}: Keras could not download them ({reason}); {_VGG_FIX}"
        ) from error
    return path
