"""The sources of images: a folder or prefix of photographs, or those inside scikit-image."""

import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from data_pipeline.images import SUFFIXES
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import (
    LocalStorage,
    ReadableStorage,
    Storage,
    StoredObject,
    open_storage,
)

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


class SourceImage(NamedTuple):
    """An image of a source.

    Attributes:
        name: Its path below the source without the suffix. Unique; all files made of it bear it.
        hr: Its file: key in the source's storage, and bytes.
        lr: Its LR file in the source's LR storage; None if LR is made from HR.
    """

    name: str
    hr: StoredObject
    lr: StoredObject | None = None


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
        UserError: If there is no such folder or no image in it, a name does not print, two images
            have one name, or an image has no LR file.
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
    if lr_uri is None:
        return source
    return with_lr(source, open_storage(lr_uri), scale=scale)


def images_among(
    objects: Iterable[StoredObject], storage: ReadableStorage
) -> tuple[SourceImage, ...]:
    """The images among a storage's objects, in ascending order of names.

    Raises:
        UserError: If there is none, a name does not print, or two images have one name.
    """
    images = sorted(
        SourceImage(str(PurePosixPath(found.key).with_suffix("")), found)
        for found in objects
        if found.key.lower().endswith(SUFFIXES) and "/." not in f"/{found.key}"
    )
    if not images:
        if isinstance(storage, LocalStorage) and not os.path.isdir(storage.uri):
            raise UserError(f"{storage.uri}: no such folder; pass a folder of images")
        raise UserError(
            f"{storage.uri}: holds no image ({', '.join(SUFFIXES)}); pass another folder"
        )
    for image in images:
        if not image.hr.key.isprintable():
            raise UserError(f"{storage.uri}: {image.hr.key!r} is no printable name; rename it")
    for one, other in pairwise(images):
        if one.name == other.name:
            raise UserError(
                f"{storage.uri}: {one.hr.key} and {other.hr.key} share the name {one.name}; "
                "rename one"
            )
    return tuple(images)


def with_lr(source: Source, lr_storage: ReadableStorage, *, scale: int) -> Source:
    """Gives every image its LR file: with the same name, or with a suffix as in 0801x4.png.

    Raises:
        UserError: Naming the first image that has none.
    """
    files = {image.name: image.hr for image in images_among(lr_storage.list(), lr_storage)}
    paired = []
    for image in source.images:
        lr = files.get(image.name) or files.get(f"{image.name}x{scale}")
        if lr is None:
            raise UserError(
                f"{lr_storage.uri}: holds no LR image for {source.storage.uri}/{image.hr.key}"
            )
        paired.append(image._replace(lr=lr))
    return Source(tuple(paired), source.storage, lr_storage)


def _samples_folder() -> Path:
    import skimage  # heavy, and only this source needs it

    return Path(skimage.__file__).parent / "data"


def canonical_uri(uri: str) -> str:
    """The URI that the manifest records: `samples` and `div2k` as they are, else absolute."""
    return uri if uri in (SAMPLES, DIV2K) else open_storage(uri).uri
