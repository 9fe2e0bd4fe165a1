"""Describes a data set to a person: some lines of text, and a picture of some patches."""

import math
import statistics
from collections.abc import Sequence
from typing import TypeAlias, get_args

import numpy as np

from data_pipeline.images import Image, encode_png
from data_pipeline.imresize import Kernel, enlarge_nearest
from data_pipeline.loading.patch_set import PatchSet
from data_pipeline.manifest import DataSettings, Manifest, stored_files
from data_pipeline.pairs import lr_psnr
from data_pipeline.platform.progress import data_size
from data_pipeline.platform.storage import Storage

Pair: TypeAlias = tuple[Image, Image]
"""HR and LR of a patch."""

_ROWS, _COLUMNS = 4, 3
_MARGIN = 4
_GREY = 128  # the edge of a white image stays visible


def summary(storage: Storage, manifest: Manifest) -> str:
    """Some lines of text: the sources, how many images and patches, how large."""
    settings = manifest.settings
    images = [image for shard in manifest.shards for image in shard.images]
    has_lr_files = any(image.lr_source for image in images)
    valid_bytes = sum(file.bytes for record in manifest.valid for file in stored_files(record))
    lines = {
        "data set": storage.uri,
        "source": settings.source,
        "LR": f"files of {settings.lr_source or settings.source}"
        if has_lr_files
        else f"made by the {settings.kernel} kernel",
        "scale": f"x{settings.scale}",
        "training": f"{len(images)} images, {manifest.num_patches} patches",
        "patches": f"{settings.patch_size} px HR, {settings.geometry.lr_size} px LR, "
        f"every {settings.stride} px",
        "shards": f"{len(manifest.shards)} {settings.format}, {data_size(manifest.train_bytes)}",
        "validation": f"{len(manifest.valid)} images, {data_size(valid_bytes)}"
        + (f", from {settings.valid_source}" if settings.valid_source else ""),
        "manifest": f"format {manifest.format_version}, sha256 {manifest.sha256()}",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())


def sample_pairs(storage: Storage, manifest: Manifest, *, seed: int = 0) -> list[Pair]:
    """Random aligned pairs of patches, uint8 [P, P, 3] and [P / scale, P / scale, 3]; 12 at most.

    Args:
        storage: DATA.
        manifest: Its manifest.
        seed: Chooses the patches.

    Raises:
        DamagedShardError: If a shard is not what the manifest says.
    """
    patches = PatchSet(storage, manifest)
    draws = np.random.default_rng(seed)
    chosen = draws.choice(len(patches), min(len(patches), _ROWS * _COLUMNS), False)
    return [patches.pair(int(patch_id)) for patch_id in chosen]


def agreement(pairs: Sequence[Pair], settings: DataSettings) -> str:
    """A line that says how near LR is to the downscaled HR.

    HR is downscaled by the kernel that made LR; where LR files were given, by the one that comes
    nearest to them.
    """
    found = {
        kernel: [lr_psnr(hr, lr, settings.scale, kernel) for hr, lr in pairs]
        for kernel in ([settings.train_kernel] if settings.train_kernel else get_args(Kernel))
    }
    kernel = max(found, key=lambda kernel: statistics.median(found[kernel]))
    finite = [psnr for psnr in found[kernel] if math.isfinite(psnr)]
    equal = len(pairs) - len(finite)
    text = f"LR of {len(pairs)} random pairs against HR downscaled by the {kernel} kernel: "
    if not finite:
        return text + "equal"
    more = f", {equal} are equal" if equal else ""
    return (
        text + f"{min(finite):.1f} dB at least, {statistics.median(finite):.1f} in the middle{more}"
    )


def contact_sheet(pairs: Sequence[Pair], *, scale: int) -> bytes:
    """A PNG of aligned pairs: LR, enlarged without smoothing, left of its HR."""
    cells = [_cell(hr, lr, scale=scale) for hr, lr in pairs]
    cells += [np.full_like(cells[0], _GREY)] * (-len(cells) % _COLUMNS)
    rows = [np.hstack(cells[row : row + _COLUMNS]) for row in range(0, len(cells), _COLUMNS)]
    return encode_png(np.vstack(rows))


def _cell(hr: Image, lr: Image, *, scale: int) -> Image:
    pair = np.hstack([enlarge_nearest(lr, scale), hr])
    margin = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
    return np.pad(pair, margin, constant_values=_GREY)
