"""DATA during a build: what it holds already, whether that belongs to the build, how it ends."""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from pydantic import ValidationError

from data_pipeline.manifest import (
    MANIFEST_KEY,
    DataSettings,
    Manifest,
    PartRecord,
    ShardRecord,
    read_manifest,
    stored_files,
)
from data_pipeline.platform.errors import UserError, differences
from data_pipeline.platform.storage import Storage, StoredObject, in_threads
from data_pipeline.prepare.originals import Original, originals, origins, replaced
from data_pipeline.prepare.parts import PROGRESS, Built, Part

_SETTINGS_KEY = PROGRESS + "settings.json"

# What a resumed build compares of every image: its name, its bytes and those of its LR file. It
# compares the content of files that may have changed since they were read.
_Input = tuple[str, int, int]

# Names of files that a build makes.
_OURS = re.compile(r"train/[^/]+\.(arrow|tfrecord)$|valid/(hr|lr_x\d)/.+\.png$")

_log = logging.getLogger(__name__)


class DataFolder:
    """DATA as one build finds it and leaves it.

    A build calls `finished`, `begin` and `finish`, in this order. The storage is listed twice: at
    the start and in `finish`.

    Args:
        storage: DATA.
        settings: What the build makes.
        parts: Its parts, in the manifest's order.

    Attributes:
        compared: What was compared with the sources, in words.

    Raises:
        UserError: If DATA was made with other settings or from other images, or holds other files.
    """

    def __init__(self, storage: Storage, settings: DataSettings, parts: Sequence[Part]) -> None:
        self._storage, self._settings, self._parts = storage, settings, parts
        self.compared = "nothing"
        # The list comes first: another command may write the manifest now.
        self._stored = self._list()
        self._manifest = read_manifest(storage)
        if self._manifest:
            self._refuse_other_settings(self._manifest.settings)
            self._refuse_other_images(self._manifest)
        elif self._stored and _SETTINGS_KEY not in self._stored:
            raise UserError(
                f"{storage.uri}: holds other files ({min(self._stored)}); choose another --out"
            )
        elif any(key.startswith(f"{PROGRESS}train/") for key in self._stored):
            self._refuse_other_settings(self._begun_settings())

    def finished(self) -> Manifest | None:
        """The manifest if all of its files are there; removes what a killed build left beside it.

        None where there is work to do.
        """
        if self._manifest is None or not self._has_files_of(*self._manifest.records):
            return None
        self._clean_up()
        return self._manifest

    def begin(self) -> dict[str, Built]:
        """Stores the settings; removes what killed writers and other settings left.

        Returns:
            The parts that need not be built again, by name.

        Raises:
            UserError: If another build begins at the same moment with other settings.
        """
        self._storage.delete_partial()
        begun = self._begun_settings()
        if begun != self._settings:
            self._store_settings(replace=begun is not None)
            self._delete(key for key in self._progress() if key != _SETTINGS_KEY)
        built: Sequence[Built | None]
        if self._manifest:
            built = [Built(record, ()) for record in self._manifest.records]
        elif begun == self._settings:
            built = in_threads(self._noted, self._parts)
        else:
            return {}
        kept = [
            (part, one)
            for part, one in zip(self._parts, built, strict=True)
            if one and _inputs(one.record) == _part_inputs(part) and self._has_files_of(one.record)
        ]
        newer = [
            file
            for part, one in kept
            for file in _originals(part, one.record)
            if file.may_be_newer(self._built(one.record))
        ]
        changed = {file.image for file in replaced(newer)}
        return {
            part.name: one
            for part, one in kept
            if changed.isdisjoint(image.name for image in part.source.images)
        }

    def finish(self, manifest: Manifest) -> None:
        """Writes the manifest, if all that it names is there; removes what it does not name.

        Raises:
            UserError: If workers wrote elsewhere, or another command took DATA over meanwhile.
        """
        self._stored = self._list()
        self._refuse_other_settings(self._begun_settings())
        if not self._has_files_of(*manifest.records):
            raise UserError(
                f"{self._storage.uri}: what the workers wrote is not there; on a cluster pass a "
                "folder that all nodes share, or s3://"
            )
        # An earlier attempt may have had other images.
        made = filter(_OURS.match, self._stored)
        self._delete(key for key in made if key not in manifest.paths)
        self._write_manifest(manifest)
        self._clean_up()

    def _list(self) -> dict[str, StoredObject]:
        return {found.key: found for found in self._storage.list()}

    def _progress(self) -> list[str]:
        return [key for key in self._stored if key.startswith(PROGRESS)]

    def _delete(self, keys: Iterable[str]) -> None:
        in_threads(self._storage.delete, keys)

    def _clean_up(self) -> None:
        self._storage.delete_partial()
        self._delete(self._progress())

    def _has_files_of(self, *records: PartRecord) -> bool:
        """Whether every file of these parts is stored with its size.

        A folder of DATA may be a link to another disk: the list of DATA ends there.
        """

        def size(key: str) -> int | None:
            found = self._stored.get(key)
            return found.size if found else self._storage.size(key)

        files = chain.from_iterable(map(stored_files, records))
        return all(size(file.path) == file.bytes for file in files)

    def _built(self, record: PartRecord) -> float:
        """When a part was built, soon after its images were read: in seconds since 1970."""
        files = [self._stored.get(file.path) for file in stored_files(record)]
        return min(file.changed if file else -math.inf for file in files)

    def _refuse_other_settings(self, old: DataSettings | None) -> None:
        if old and old != self._settings:
            changes = "; ".join(differences(old.model_dump(), self._settings.model_dump()))
            raise UserError(
                f"{self._storage.uri}: was made with other settings ({changes}); choose another "
                "--out"
            )

    def _refuse_other_images(self, manifest: Manifest) -> None:
        if names := _names_that_changed(manifest, self._parts):
            raise UserError(
                f"{self._storage.uri}: the source's list of images is another one now ({names}): "
                "files came or went, or a newer version of this program reads other files; choose "
                "another --out"
            )
        made_of = [_inputs(record) for record in manifest.records]
        now = [_part_inputs(part) for part in self._parts]
        changed = sorted(one[0] for one in {*chain(*made_of)} ^ {*chain(*now)})
        if made_of == now:
            pairs = zip(self._parts, manifest.records, strict=True)
            files = [
                (one, self._built(record))
                for part, record in pairs
                for one in _originals(part, record)
            ]
            newer = [one for one, built in files if one.may_be_newer(built)]
            changed = [one.image for one in replaced(newer)]
            self.compared = (
                f"names and sizes of {len(files)} source files are the same, so is the content of "
                f"{len(newer)} that may have changed since"
            )
        if changed or made_of != now:
            example = f" ({changed[0]})" if changed else ""
            raise UserError(
                f"{self._storage.uri}: the source's images have changed since{example}; "
                "choose another --out"
            )

    def _begun_settings(self) -> DataSettings | None:
        """Settings of the unfinished build in DATA; None where there is none, or no longer."""
        try:
            return DataSettings.model_validate_json(self._storage.read(_SETTINGS_KEY))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise UserError(
                f"{self._storage.uri}/{_SETTINGS_KEY}: is damaged; delete the folder or choose "
                "another --out"
            ) from error

    def _store_settings(self, *, replace: bool) -> None:
        data = self._settings.model_dump_json(indent=1).encode()
        if replace:  # of a build without a shard; one with shards was refused
            self._storage.write(_SETTINGS_KEY, data)
            return
        try:
            self._storage.write_new(_SETTINGS_KEY, data)
        except FileExistsError:
            self._refuse_other_settings(self._begun_settings())

    def _noted(self, part: Part) -> Built | None:
        if part.progress_key not in self._stored:
            return None
        try:
            return Built.from_bytes(self._storage.read(part.progress_key), part)
        except FileNotFoundError:  # another command has finished meanwhile
            return None
        except ValueError:
            uri = self._storage.uri
            _log.warning("%s/%s: is damaged; the part is built again", uri, part.progress_key)
            return None

    def _write_manifest(self, manifest: Manifest) -> None:
        """Never replaces another manifest."""
        data = manifest.to_json()
        try:
            self._storage.write_new(MANIFEST_KEY, data)
        except FileExistsError as error:
            if self._storage.read(MANIFEST_KEY) != data:
                raise UserError(
                    f"{self._storage.uri}/{MANIFEST_KEY}: does not describe what the source's "
                    "images give now; choose another --out"
                ) from error


def _inputs(record: PartRecord) -> list[_Input]:
    return [
        (image.name, image.source.bytes, image.lr_source.bytes if image.lr_source else 0)
        for image in origins(record)
    ]


def _part_inputs(part: Part) -> list[_Input]:
    return [
        (image.name, image.hr.size, image.lr.size if image.lr else 0)
        for image in part.source.images
    ]


def _names_that_changed(manifest: Manifest, parts: Sequence[Part]) -> str:
    """One image that came and one that went, as in `+ a.webp, - b`; empty where there are none."""
    made = {
        (isinstance(record, ShardRecord), image.name)
        for record in manifest.records
        for image in origins(record)
    }
    now = {(part.is_shard, one.name): one.hr.key for part in parts for one in part.source.images}
    came = sorted(f"+ {key}" for image, key in now.items() if image not in made)
    gone = sorted(f"- {name}" for _, name in made - now.keys())
    return ", ".join(came[:1] + gone[:1])


def _originals(part: Part, record: PartRecord) -> Iterator[Original]:
    for image, origin in zip(part.source.images, origins(record), strict=True):
        yield from originals(part.source, image, origin)
