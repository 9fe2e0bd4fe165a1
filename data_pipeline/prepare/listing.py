"""Which of a folder's files are its images. Pure, but for one line in the log."""

import logging
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from data_pipeline.images import SUFFIXES
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import LocalStorage, ReadableStorage, StoredObject
from data_pipeline.platform.storage.walk import is_of_a_system

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories; Cs stands for bytes of no character

_SHOWN = 8

_log = logging.getLogger(__name__)


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


def images_among(
    objects: Iterable[StoredObject], storage: ReadableStorage
) -> tuple[SourceImage, ...]:
    """The images among a storage's objects; the log says in one line what is left out.

    Args:
        objects: What the storage lists.
        storage: The storage, for messages.

    Returns:
        The images in ascending order of names.

    Raises:
        UserError: As `image_files`, and if two images have one name, or a name does not print.
    """
    files = image_files(objects, storage)
    for found in files:
        if not is_printable(found.key):
            raise UserError(f"{storage.uri}: {found.key!r} is no printable name; rename it")
    images = [SourceImage(str(PurePosixPath(one.key).with_suffix("")), one) for one in files]
    images.sort()
    same = [(one, other) for one, other in pairwise(images) if one.name == other.name]
    if same:
        shown = "; ".join(f"{one.hr.key} and {other.hr.key}" for one, other in same[:_SHOWN])
        more = f"; and {len(same) - _SHOWN} more pairs" if len(same) > _SHOWN else ""
        raise UserError(
            f"{storage.uri}: files share a name: {shown}{more}; rename or move one of each"
        )
    return tuple(images)


def image_files(objects: Iterable[StoredObject], storage: ReadableStorage) -> list[StoredObject]:
    """The files among a storage's objects that are images by their names, in ascending order.

    The log says in one line what is left out.

    Raises:
        UserError: If there is none.
    """
    uri = storage.uri
    images = []
    left_out: dict[str, list[str]] = defaultdict(list)
    for found in objects:
        if reason := _why_left_out(found.key):
            left_out[reason].append(found.key)
        else:
            images.append(found)
    if left_out:
        count = sum(map(len, left_out.values()))
        _log.info("%s: leaves out %d file(s): %s", uri, count, _examples(left_out))
    if not images:
        if isinstance(storage, LocalStorage) and not os.path.isdir(uri):
            raise UserError(f"{uri}: no such folder; pass a folder of images")
        raise UserError(f"{uri}: holds no image ({', '.join(SUFFIXES)}); pass another folder")
    return sorted(images)


def is_printable(key: str) -> bool:
    """Whether a name can be shown in a line, and be text: bytes of no character cannot."""
    return not any(unicodedata.category(letter) in _UNPRINTABLE for letter in key)


def _why_left_out(key: str) -> str | None:
    path = PurePosixPath(key)
    if any(part.startswith(".") for part in path.parts):
        return "hidden"
    if any(map(is_of_a_system, path.parents)):
        return "in a system's folder"
    suffix = path.suffix.lower()
    return None if suffix in SUFFIXES else suffix or "without a suffix"


def _examples(left_out: dict[str, list[str]]) -> str:
    """As in `2 hidden (.DS_Store), 1 .gif (photo7.gif)`; the largest groups first."""
    groups = sorted(left_out.items(), key=lambda group: (-len(group[1]), group[0]))
    shown = [f"{len(keys)} {reason} ({min(keys)!r})" for reason, keys in groups[:_SHOWN]]
    rest = sum(len(keys) for _, keys in groups[_SHOWN:])
    return ", ".join(shown) + (f", {rest} of other kinds" if rest else "")
