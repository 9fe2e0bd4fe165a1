"""The picture that a run leaves after every epoch."""

import keras
import numpy as np
import numpy.typing as npt

from data_pipeline.images import as_rgb, decode_image, encode_png
from data_pipeline.imresize import enlarge_nearest
from data_pipeline.manifest import Manifest
from data_pipeline.storage import Storage
from srgan.upscale import super_resolve

_SAMPLE_ROWS = 4
_SAMPLE_LR_SIDE = 40

Image = npt.NDArray[np.uint8]


def sample_pairs(storage: Storage, manifest: Manifest) -> list[tuple[Image, Image]]:
    """The centres of the first few validation images: aligned (LR, HR) crops, uint8 RGB."""
    pairs = []
    scale = manifest.settings.scale
    for record in manifest.valid[:_SAMPLE_ROWS]:
        lr, hr = (as_rgb(decode_image(storage.read(f.path))) for f in (record.lr, record.hr))
        top, left = (max(0, (side - _SAMPLE_LR_SIDE) // 2) for side in lr.shape[:2])
        bottom, right = top + _SAMPLE_LR_SIDE, left + _SAMPLE_LR_SIDE
        crop = hr[top * scale : bottom * scale, left * scale : right * scale]
        pairs.append((lr[top:bottom, left:right], crop))
    return pairs


def write_sample_grid(
    generator: keras.Model, pairs: list[tuple[Image, Image]], storage: Storage, key: str
) -> None:
    """Writes a picture: a row per pair, LR (nearest) | SR | HR."""
    rows = []
    for lr, hr in pairs:
        scale = hr.shape[0] // lr.shape[0]
        nearest = enlarge_nearest(lr, scale)
        row = np.concatenate([nearest, super_resolve(generator, lr), hr], axis=1)
        padding = 3 * _SAMPLE_LR_SIDE * scale - row.shape[1]
        bottom = _SAMPLE_LR_SIDE * scale - row.shape[0]
        rows.append(np.pad(row, ((0, bottom), (0, padding), (0, 0))))
    storage.write(key, encode_png(np.concatenate(rows)))
