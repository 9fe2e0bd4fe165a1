"""DIV2K (Agustsson and Timofte 2017): 800 training and 100 validation images with bicubic LR.

The images are read straight from the official archives. A web address or a bucket's archives are
copied to the node's folder once; a folder's archives are read in place. A bucket or a folder may
also hold the images instead of the archives; single images have no published checksums.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from data_pipeline.manifest import DataSettings
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.node import node_folder
from data_pipeline.platform.storage import LocalStorage, ReadableStorage, Storage, open_storage
from data_pipeline.platform.storage.archive import ZipStorage
from data_pipeline.prepare.download import Content, NotThereError, download, obtain, require
from data_pipeline.prepare.listing import images_among
from data_pipeline.prepare.sources import DIV2K, Source, with_lr

_OFFICIAL_SITE = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
LICENCE = (
    "DIV2K is made available for academic research only; the copyright of its images belongs to "
    "their owners (https://data.vision.ee.ethz.ch/cvl/DIV2K/)"
)


class _Archive(NamedTuple):
    """An official archive: the folder of its images, and its content."""

    folder: str
    content: Content


# The site publishes no checksums. TensorFlow Datasets recorded these from the same files.
_ARCHIVES = {
    "DIV2K_train_HR.zip": _Archive(
        "DIV2K_train_HR/",
        Content(3_530_603_713, "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335"),
    ),
    "DIV2K_valid_HR.zip": _Archive(
        "DIV2K_valid_HR/",
        Content(448_993_893, "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc"),
    ),
    "DIV2K_train_LR_bicubic_X2.zip": _Archive(
        "DIV2K_train_LR_bicubic/X2/",
        Content(925_390_592, "a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850"),
    ),
    "DIV2K_train_LR_bicubic_X3.zip": _Archive(
        "DIV2K_train_LR_bicubic/X3/",
        Content(427_847_282, "ad5c8e5507e2765823d3c2c5bd0934842efcd487c5370604c224090898b3163a"),
    ),
    "DIV2K_train_LR_bicubic_X4.zip": _Archive(
        "DIV2K_train_LR_bicubic/X4/",
        Content(246_914_039, "f006b837f4eb52b82909aa01478e6d6d199eefce932179491d0c9dbb706dde3a"),
    ),
    "DIV2K_valid_LR_bicubic_X2.zip": _Archive(
        "DIV2K_valid_LR_bicubic/X2/",
        Content(117_763_600, "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57"),
    ),
    "DIV2K_valid_LR_bicubic_X3.zip": _Archive(
        "DIV2K_valid_LR_bicubic/X3/",
        Content(54_513_392, "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3"),
    ),
    "DIV2K_valid_LR_bicubic_X4.zip": _Archive(
        "DIV2K_valid_LR_bicubic/X4/",
        Content(31_505_881, "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553"),
    ),
}

# The images are named by their numbers.
_NUMBERS = {"train": range(1, 801), "valid": range(801, 901)}

_log = logging.getLogger(__name__)


def open_div2k(
    split: Literal["train", "valid"], settings: DataSettings, mirror: str | None
) -> Source:
    """DIV2K's images, each with its published LR file where there is one.

    LR files are published for MATLAB's kernel and the scales 2, 3 and 4; a mirror may lack them.
    LR that is made from HR with this kernel is the same, bit for bit.

    Args:
        split: Training or validation images.
        settings: Their scale and kernel.
        mirror: Where the archives or images are; None for the official site.

    Raises:
        UserError: If an archive is missing or not the published one, or an image is missing.
        JobFailedError: If a download keeps failing.
    """
    _log.info("%s", LICENCE)
    hr_name = f"DIV2K_{split}_HR.zip"
    hr = _open(hr_name, mirror)
    if hr is None:
        raise UserError(
            f"{mirror}: holds neither {hr_name} nor images in {_ARCHIVES[hr_name].folder}; "
            "pass another --mirror"
        )
    names = {f"{number:04}" for number in _NUMBERS[split]}
    images = tuple(image for image in images_among(hr.list(), hr) if image.name in names)
    source = Source(images, hr)
    if missing := sorted(names - {image.name for image in images}):
        raise UserError(
            f"{hr.uri}: lacks {len(missing)} of DIV2K's images, the first is {missing[0]}.png; "
            "complete it or pass another --mirror"
        )
    lr_name = f"DIV2K_{split}_LR_bicubic_X{settings.scale}.zip"
    if settings.kernel != "matlab" or lr_name not in _ARCHIVES:
        return source
    lr = _open(lr_name, mirror)
    if lr is None:
        _log.info("%s: has no %s; LR is made from HR, bit for bit the same", mirror, lr_name)
        return source
    return with_lr(source, lr, scale=settings.scale)


def _open(name: str, mirror: str | None) -> ReadableStorage | None:
    """The images of an archive; None where a mirror has neither the archive nor its images."""
    archive = _ARCHIVES[name]
    site = (mirror or _OFFICIAL_SITE).rstrip("/")
    origin = f"{site}/{name}"
    if site.startswith(("http://", "https://")):
        target = node_folder(DIV2K) / name
        try:
            download(origin, target, archive.content)
        except NotThereError:
            if mirror is None or name.endswith("_HR.zip"):
                raise
            return None
        return ZipStorage(target, archive.folder)
    storage = open_storage(site)
    if storage.size(name) is None:
        folder = open_storage(f"{storage.uri}/{archive.folder}", follow_links=True)
        return folder if folder.list() else None
    if isinstance(storage, LocalStorage):
        target = storage.path(name)
        require(target, origin, archive.content, "pass another copy")
    else:
        target = node_folder(DIV2K) / name
        obtain(target, origin, partial(_copy, storage, name), archive.content)
    return ZipStorage(target, archive.folder)


def _copy(storage: Storage, key: str, path: Path) -> None:
    with path.open("wb") as file:
        for block in storage.stream(key):
            file.write(block)
