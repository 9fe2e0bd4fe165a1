"""Where images come from: a folder of photographs, or those that ship inside scikit-image."""

import os
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from data_pipeline.errors import UserError
from data_pipeline.images import SUFFIXES
from data_pipeline.storage import Storage, open_storage

SAMPLES = "samples"

# All are photographs of scikit-image's wheel; no scene is in both lists.
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
    """An image file of a source.

    Attributes:
        name: Its path below the source without the suffix: unique, names every derived file.
        key: Its key in the source's storage.
        size: Its bytes.
    """

    name: str
    key: str
    size: int


class Source(NamedTuple):
    """A source's storage and its images in ascending order of names."""

    storage: Storage
    images: tuple[SourceImage, ...]


def open_source(uri: str, split: Literal["train", "valid"]) -> Source:
    """Lists a source's images; reads none.

    Args:
        uri: `samples`, or a folder that is searched with its subfolders; hidden ones are not.
        split: Which side of `samples`; a folder is taken whole.

    Raises:
        UserError: If there is no such folder, no image in it, a name that does not print,
            or two images of one name.
    """
    if uri == SAMPLES:
        storage = open_storage(str(_samples_folder()))
        names = set(_SAMPLE_FILES[split])
        objects = [found for found in storage.list() if found.key in names]
        if missing := sorted(names - {found.key for found in objects}):
            raise UserError(
                f"{SAMPLES}: this scikit-image lacks {missing[0]}; install the version of "
                "constraints.txt"
            )
    else:
        storage = open_storage(uri)
        objects = [
            found
            for found in storage.list()
            if found.key.lower().endswith(SUFFIXES) and "/." not in f"/{found.key}"
        ]
    if not objects:
        if not os.path.isdir(storage.uri):
            raise UserError(f"{storage.uri}: no such folder; pass a folder of images")
        raise UserError(
            f"{storage.uri}: holds no image ({', '.join(SUFFIXES)}); pass another folder"
        )
    images = sorted(
        SourceImage(str(PurePosixPath(key).with_suffix("")), key, size) for key, size in objects
    )
    for image in images:
        if not image.key.isprintable():
            raise UserError(f"{storage.uri}: {image.key!r} is no printable name; rename it")
    for one, other in pairwise(images):
        if one.name == other.name:
            raise UserError(
                f"{storage.uri}: {one.key} and {other.key} share the name {one.name}; rename one"
            )
    return Source(storage, tuple(images))


def _samples_folder() -> Path:
    import skimage  # heavy, and only this source needs it

    return Path(skimage.__file__).parent / "data"


def canonical_uri(uri: str) -> str:
    """The URI as the manifest records it: `samples` as it is, a folder as an absolute path."""
    return uri if uri == SAMPLES else open_storage(uri).uri
