"""Files below a folder, with their sizes and the times of their last change."""

import errno
import logging
import math
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage.disk_errors import MAY_PASS

# Folders of thumbnails, of deleted files and of metadata that systems make beside people's own:
# Synology, QNAP, macOS, Windows, Linux.
_SYSTEM_FOLDERS = {"@eadir", "@__thumb", "@recycle", "@tmp", "#recycle", "#snapshot", "__macosx"}
_SYSTEM_FOLDERS |= {"$recycle.bin", "recycler", "system volume information", "lost+found"}

_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

_log = logging.getLogger(__name__)


class FoundFile(NamedTuple):
    """A regular file, or a link to one: its path, bytes, and last change in seconds since 1970."""

    path: Path
    size: int
    changed: float


def is_of_a_system(folder: PurePath) -> bool:
    """Whether a system makes folders of this name for itself. In a photo library: its previews."""
    name = folder.name.lower()
    is_preview = name == "resources" and folder.parent.suffix.lower() == ".photoslibrary"
    return is_preview or name in _SYSTEM_FOLDERS


def files_below(root: Path, *, follow_links: bool) -> Iterator[FoundFile]:
    """The files of a folder and its subfolders.

    Args:
        root: The folder.
        follow_links: Whether to enter linked folders, each of them once. A file is then as new as
            all that its content depends on: the file, the folders from the root to it, and the
            links on the way. A renamed folder and a link to another folder are noticed by that.
            Otherwise a file is as new as itself and its link.

    Raises:
        UserError: If a folder cannot be read.
    """
    folders = _linked_folders(root) if follow_links else _own_folders(root)
    for folder, names, changed in folders:
        for path in (Path(folder, name) for name in names):
            try:
                found = path.lstat()
                own = found.st_ctime  # a program can set mtime back, as `cp -p` does, but not ctime
                if stat.S_ISLNK(found.st_mode):
                    found = path.stat()
                    own = max(found.st_ctime, _links_changed(path))
            except OSError as error:
                if error.errno not in _NO_FILE:
                    _refuse(error, root)
                elif path.is_symlink():  # else it is gone meanwhile
                    _log.warning("%s: links to no file; it is left out", path)
                continue
            if stat.S_ISREG(found.st_mode):
                yield FoundFile(path, found.st_size, max(own, changed))


def _own_folders(root: Path) -> Iterator[tuple[str, list[str], float]]:
    for folder, _, names in os.walk(root, onerror=partial(_refuse, root=root)):
        yield folder, names, -math.inf


def _linked_folders(root: Path) -> Iterator[tuple[str, list[str], float]]:
    """Folders, the names of their files, and the last change of the way from the root.

    A folder that several paths lead to counts once: at its own place if that is below the root,
    else at the first link. If its own place is hidden, a link that is not hidden counts too.
    """
    top = os.path.realpath(root)
    seen: set[tuple[bool, str]] = set()
    times: dict[str, float] = {}
    walk = os.walk(root, onerror=partial(_refuse, root=root), followlinks=True)
    for folder, folders, names in walk:
        real = os.path.realpath(folder)
        place, own_place = os.path.relpath(folder, root), os.path.relpath(real, top)
        is_hidden = _is_hidden(place)
        counts_there = Path(real).is_relative_to(top) and (is_hidden or not _is_hidden(own_place))
        if place != own_place and (counts_there or (is_hidden, real) in seen):
            folders.clear()
            continue
        seen.add((is_hidden, real))
        try:
            changed = os.stat(folder).st_ctime
            if place == "." or os.path.islink(folder):
                changed = max(changed, _links_changed(Path(folder)))
        except (FileNotFoundError, NotADirectoryError):  # gone meanwhile
            folders.clear()
            continue
        times[folder] = max(changed, times.get(os.path.dirname(folder), -math.inf))
        folders.sort()
        yield folder, names, times[folder]


def _is_hidden(place: str) -> bool:
    return any(name.startswith(".") for name in Path(place).parts)


def _links_changed(path: Path) -> float:
    """When the newest link on the way to a path was made, those included that links lead to."""
    newest = -math.inf
    for place in (*reversed(path.parents), path):
        if place.is_symlink():
            target = Path(os.path.realpath(place.parent), place.readlink())
            newest = max(newest, place.lstat().st_ctime, _links_changed(target))
    return newest


def _refuse(error: OSError, root: Path) -> None:
    """An unreadable folder must not look like an empty one, unless its files do not count anyway.

    Raises:
        UserError: If it is neither gone, nor hidden, nor a system's.
    """
    if error.errno in MAY_PASS:
        raise error
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return
    place = Path(os.path.relpath(error.filename, root))
    if _is_hidden(str(place)) or any(map(is_of_a_system, (place, *place.parents))):
        _log.info("%s: does not read; it is left out", error.filename)
        return
    raise UserError(f"{error.filename}: does not read: {error.strerror}; fix that") from error
