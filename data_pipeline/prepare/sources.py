"""The sources of images: a folder or prefix of photographs, or those inside scikit-image."""

import logging
import unicodedata
from pathlib import Path
from typing import Literal, NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import (
    ReadableStorage,
    Storage,
    open_storage,
)
from data_pipeline.prepare.listing import SourceImage, images_among
from data_pipeline.prepare.mixtures import refuse_mixtures

SAMPLES = "samples"
DIV2K = "div2k"

# Photographs of scikit-image's wheel. No scene is in both lists.
_SAMPLE_FILES = {
    "train": (
        "camera.png",
        "coffee.png",
        "motorcycle_left.png",
        "rocket.jpg",
    ),
    "valid": ("astronaut.png", "chelsea.png"),
}


_log = logging.getLogger(__name__)


class Source(NamedTuple):
    """Images in ascending order of names, the storage of their files, that of their LR files."""

    images: tuple[SourceImage, ...]
    storage: ReadableStorage
    lr_storage: ReadableStorage | None = None


def open_source(
    uri: str, split: Literal["train", "valid"], *, lr_uri: str | None = None, scale: int
) -> Source:
    """Lists a source's images; reads none of them.

    Args:
        uri: `samples`, or a folder or prefix, with its subfolders but not with hidden ones.
        split: Which images of `samples`; of a folder all images are taken.
        lr_uri: A folder or prefix with an LR file for every image, see `with_lr`.
        scale: HR side / LR side.

    Raises:
        UserError: As `images_among` and `refuse_mixtures`, and if an image has no LR file.
    """
    if uri == SAMPLES:
        storage: Storage = open_storage(str(_samples_folder()))
        names = set(_SAMPLE_FILES[split])
        objects = [found for found in storage.list() if found.key in names]
        if missing := sorted(names - {found.key for found in objects}):
            raise UserError(
                f"{SAMPLES}: this scikit-image lacks {missing[0]}; install the version of "
                "constraints.txt"
            )
    else:
        storage = open_storage(uri)
        objects = storage.list()
    source = Source(images_among(objects, storage), storage)
    refuse_mixtures([image.hr for image in source.images], storage.uri)
    if lr_uri is None:
        return source
    return with_lr(source, open_storage(lr_uri), scale=scale)


def with_lr(source: Source, lr_storage: ReadableStorage, *, scale: int) -> Source:
    """Gives every image its LR file: with the same name, or with a suffix as in 0801x4.png.

    Names that look the same but are spelled with other Unicode letters meet, as those of macOS and
    Linux. LR files that belong to no image are told in the log.

    Raises:
        UserError: Naming the first image that has none.
    """
    files = {image.name: image.hr for image in images_among(lr_storage.list(), lr_storage)}
    composed = {unicodedata.normalize("NFC", name): file for name, file in files.items()}
    paired = []
    for image in source.images:
        names = (image.name, f"{image.name}x{scale}")
        found = [files.get(name) for name in names]
        found += [composed.get(unicodedata.normalize("NFC", name)) for name in names]
        lr = next((file for file in found if file), None)
        if lr is None:
            raise UserError(
                f"{lr_storage.uri}: holds no LR image for {source.storage.uri}/{image.hr.key}; "
                f"name it {names[0]} or {names[1]}"
            )
        paired.append(image._replace(lr=lr))
    if surplus := sorted({*files.values()} - {image.lr for image in paired}):
        _log.warning(
            "%s: leaves out %d LR file(s) that no HR image has (%s)",
            lr_storage.uri,
            len(surplus),
            surplus[0].key,
        )
    return Source(tuple(paired), source.storage, lr_storage)


def _samples_folder() -> Path:
    import skimage  # heavy, and only this source needs it

    return Path(skimage.__file__).parent / "data"


def canonical_uri(uri: str) -> str:
    """The URI that the manifest records: `samples` and `div2k` as they are, else absolute."""
    return uri if uri in (SAMPLES, DIV2K) else open_storage(uri).uri
