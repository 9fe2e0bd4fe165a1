"""Which pictures become which results. Lists INPUT; reads and writes no picture."""

import glob
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import NamedTuple

from data_pipeline.images import SUFFIXES
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import (
    LocalStorage,
    Storage,
    StoredObject,
    open_file,
    open_storage,
)
from data_pipeline.prepare.listing import image_files, is_printable

_S3 = "s3://"
_ALL = ("**",)
_SHOWN = 5


class Work(NamedTuple):
    """A picture of INPUT, and the key of its result in OUTPUT."""

    source: StoredObject
    target: str


class Plan(NamedTuple):
    """What an upscaling is to make.

    Attributes:
        source: Where the pictures are.
        target: Where the results go.
        works: The pictures, in ascending order of their keys.
        refused: Which pictures cannot be upscaled because of their names, and why.
        is_file: Whether OUTPUT is one file; then `target` is the folder that it lies in.
    """

    source: Storage
    target: Storage
    works: tuple[Work, ...]
    refused: tuple[str, ...]
    is_file: bool


class _Input(NamedTuple):
    """INPUT: the files of a storage whose keys a pattern matches, part by part."""

    storage: Storage
    pattern: tuple[str, ...]
    files: list[StoredObject]
    is_file: bool


def plan(input_uri: str, output_uri: str, *, ext: str | None) -> Plan:
    """Plans an upscaling.

    Args:
        input_uri: A picture, a folder or s3:// prefix with its subfolders, or a pattern: `*`, `?`
            and `[...]` inside a name, `**` for any folders. Links to folders are followed.
        output_uri: A folder or prefix. For a single picture also the result's file: a name with
            a picture's suffix that is no folder.
        ext: The suffix of the results, without its dot; None keeps the names.

    Raises:
        UserError: If INPUT does not exist or holds no picture of a printable name, two pictures
            have one result, or a result would be a picture of INPUT.
    """
    given = _open_input(input_uri)
    files = [one for one in given.files if is_printable(one.key)]
    refused = tuple(
        f"{one.key!r}: is no printable name; rename it"
        for one in given.files
        if not is_printable(one.key)
    )
    if not files:
        raise UserError(refused[0])
    if given.is_file and _is_picture(output_uri) and not os.path.isdir(output_uri):
        target, name = open_file(output_uri)
        if ext and _with_suffix(name, ext) != name:
            raise UserError(f"{output_uri}: does not end in .{ext}; leave --ext out, or rename it")
        works = [Work(files[0], name)]
    else:
        target, name = open_storage(output_uri), ""
        works = [Work(one, _with_suffix(one.key, ext)) for one in files]
    _refuse_collisions(works)
    _refuse_circle(given, target, works, output_uri)
    return Plan(given.storage, target, tuple(works), refused, is_file=bool(name))


def _open_input(uri: str) -> _Input:
    is_below_bucket = not uri.startswith(_S3) or "/" in uri.removeprefix(_S3)
    if is_below_bucket and uri.rpartition("/")[2] not in ("", ".", ".."):
        storage, name = open_file(uri)
        if (size := storage.size(name)) is not None:
            if not _is_picture(name):
                raise UserError(f"{uri}: is no picture by its name ({', '.join(SUFFIXES)})")
            return _Input(storage, (glob.escape(name),), [StoredObject(name, size)], is_file=True)
    storage = open_storage(uri, follow_links=True)
    found = re.fullmatch(r"((?:[^*?[]*/)?)([^/]*[*?[].*)", uri)
    is_local, is_folder = isinstance(storage, LocalStorage), os.path.isdir(storage.uri)
    if is_local and not is_folder and not found:
        raise UserError(f"{storage.uri}: no such file or folder")
    if not found or is_folder:
        return _Input(storage, _ALL, image_files(storage.list(), storage), is_file=False)
    storage = open_storage(found[1] or ".", follow_links=True)
    pattern = tuple(found[2].split("/"))
    if is_local:  # a walk through all folders could take long
        keys = glob.glob(found[2], root_dir=storage.uri, recursive=True)
        sizes = {key: storage.size(key) for key in keys}
        files = [StoredObject(key, size) for key, size in sizes.items() if size is not None]
    else:
        files = [one for one in storage.list() if _matches(one.key.split("/"), pattern)]
    if not files:
        raise UserError(f"{uri}: matches no file; put the pattern in quotes, and check it")
    return _Input(storage, pattern, image_files(files, storage), is_file=False)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a pattern, both split at their slashes."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _with_suffix(key: str, ext: str | None) -> str:
    return str(PurePosixPath(key).with_suffix(f".{ext}")) if ext else key


def _refuse_collisions(works: Sequence[Work]) -> None:
    sources: dict[str, str] = {}
    problems = []
    for source, target in works:
        if (other := sources.setdefault(target, source.key)) != source.key:
            problems.append(f"{other} and {source.key}: both become {target}")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more pairs" if len(problems) > _SHOWN else ""
        raise UserError(f"{'; '.join(problems[:_SHOWN])}{more}; leave --ext out, or rename one")


def _refuse_circle(given: _Input, target: Storage, works: Sequence[Work], uri: str) -> None:
    """A result in INPUT would replace a picture, or be one of the next call's.

    Raises:
        UserError: If there is one.
    """
    inside, outside = _real(given.storage), _real(target)
    for work in works:
        path = f"{outside}{work.target}"
        if path.startswith(inside) and _matches(
            path.removeprefix(inside).split("/"), given.pattern
        ):
            raise UserError(
                f"{uri}: lies in INPUT, or is it: the next call would upscale its results; choose "
                "another place"
            )


def _real(storage: Storage) -> str:
    """A storage's URI, without links, with a slash at its end."""
    is_local = isinstance(storage, LocalStorage)
    place = os.path.realpath(storage.uri) if is_local else storage.uri
    return place.rstrip("/") + "/"
