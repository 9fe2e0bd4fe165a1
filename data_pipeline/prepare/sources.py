"""The sources of images: a folder or prefix of photographs, or those inside scikit-image."""

import logging
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Literal, NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import (
    ReadableStorage,
    Storage,
    StoredObject,
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
        uri: `samples`, or a folder or prefix, with its subfolders but not with hidden ones. Links
            are followed.
        split: Which images of `samples`; of a folder all images are taken.
        lr_uri: A folder or prefix with an LR file for every image, see `with_lr`.
        scale: HR side / LR side.

    Raises:
        UserError: As `images_among`, `refuse_mixtures` and `with_lr`.
    """
    if uri == SAMPLES:
        storage: Storage = open_storage(str(_samples_folder()), follow_links=True)
        names = set(_SAMPLE_FILES[split])
        objects = [found for found in storage.list() if found.key in names]
        if missing := sorted(names - {found.key for found in objects}):
            raise UserError(
                f"{SAMPLES}: this scikit-image lacks {missing[0]}; install the version of "
                "constraints.txt"
            )
    else:
        storage = open_storage(uri, follow_links=True)
        objects = storage.list()
    source = Source(images_among(objects, storage), storage)
    refuse_mixtures([image.hr for image in source.images], storage.uri)
    if lr_uri is None:
        return source
    return with_lr(source, open_storage(lr_uri, follow_links=True), scale=scale)


def with_lr(source: Source, lr_storage: ReadableStorage, *, scale: int) -> Source:
    """Gives every image its LR file: with the same name, or with a suffix as in 0801x4.png.

    Where no file has the same spelling, names meet that look the same but are spelled with other
    Unicode letters, as those of macOS and Linux. LR files that belong to no image are told in the
    log.

    Raises:
        UserError: Naming the first image that has no LR file, or several that look alike, or that
            of another image.
    """
    files: dict[str, StoredObject] = {}
    alike: dict[str, list[StoredObject]] = defaultdict(list)
    for one in images_among(lr_storage.list(), lr_storage):
        files[one.name] = one.hr
        alike[_composed(one.name)].append(one.hr)
    used: dict[StoredObject, str] = {}
    paired = []
    for image in source.images:
        names = (image.name, f"{image.name}x{scale}")
        found = [[files[name]] for name in names if name in files]
        found += [alike[_composed(name)] for name in names if _composed(name) in alike]
        hr = f"{source.storage.uri}/{image.hr.key}"
        if not found:
            raise UserError(
                f"{lr_storage.uri}: holds no LR image for {hr}; name it {names[0]} or {names[1]}"
            )
        lr, *others = found[0]
        if others:
            raise UserError(
                f"{lr_storage.uri}: {lr.key!a} and {others[0].key!a} look the same, and either may "
                f"be the LR of {hr}; remove one"
            )
        if lr in used:
            raise UserError(
                f"{lr_storage.uri}/{lr.key}: would be the LR of both {used[lr]!a} and "
                f"{image.hr.key!a}; give each its own, with exactly its name"
            )
        used[lr] = image.hr.key
        paired.append(image._replace(lr=lr))
    if surplus := sorted({*files.values()} - used.keys()):
        _log.warning(
            "%s: leaves out %d LR file(s) that no HR image has (%s)",
            lr_storage.uri,
            len(surplus),
            surplus[0].key,
        )
    return Source(tuple(paired), source.storage, lr_storage)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _samples_folder() -> Path:
    import skimage  # heavy, and only this source needs it

    return Path(skimage.__file__).parent / "data"


def canonical_uri(uri: str) -> str:
    """The URI that the manifest records: `samples` and `div2k` as they are, else absolute."""
    return uri if uri in (SAMPLES, DIV2K) else open_storage(uri).uri
