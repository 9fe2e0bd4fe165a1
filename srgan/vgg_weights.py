"""Where VGG19's weights come from, and the copy that a run keeps for its workers.

The driver calls this, so nothing here builds a layer: Keras would initialise every GPU.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage, open_file
from srgan import KERAS_FOLDER
from srgan.config import VggName
from srgan.run_layout import VGG_KEY
from srgan.vgg_layers import Weights, check_weights, weight_shapes

IMAGENET = "imagenet"

# The file that keras.applications.VGG19(include_top=False) downloads, and its MD5.
_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
_MD5 = "253f8cb515780f3b799900260a226db6"

_FIX = "pass a .npz or .h5 file with Keras's VGG19 weights as vgg_weights"


def provide_vgg_weights(source: str, names: list[VggName], run: Storage) -> None:
    """Puts the arrays that a run needs into RUN, once. Other nodes and later resumes read them.

    Args:
        source: `imagenet`, or a file or URI.
        names: The extractors that the run needs.
        run: RUN.

    Raises:
        UserError: If the source is missing, damaged or lacks an array.
    """
    if not names or run.size(VGG_KEY) is not None:
        return
    weights = _read(source)
    needed: dict[str, Any] = {}
    for name in names:
        try:
            check_weights(weights, name)
        except ValueError as error:
            raise UserError(f"{source}: {error}; {_FIX}") from error
        needed |= {key: weights[key] for key in weight_shapes(name)}
    buffer = io.BytesIO()
    np.savez(buffer, **needed)
    run.write(VGG_KEY, buffer.getvalue())


def read_vgg_weights(run: Storage) -> Weights:
    """Reads RUN's copy: float32 arrays under the names of `vgg.weight_shapes`."""
    return _from_npz(run.read(VGG_KEY))


def _read(source: str) -> Weights:
    storage, name = open_file(_download() if source == IMAGENET else source)
    try:
        data = storage.read(name)
    except OSError as error:
        raise UserError(f"{source}: does not read: {error.strerror}; {_FIX}") from error
    try:
        return _from_npz(data) if name.endswith(".npz") else _from_h5(data)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{source}: is no file of weights ({error}); {_FIX}") from error


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
            f"vgg_weights {IMAGENET}: Keras could not download them ({reason}); {_FIX}"
        ) from error
    return path
