"""What all results of an OUTPUT share, and the file that tells it: `upscale.json`."""

import json
import logging
from collections.abc import Collection
from typing import Any, NamedTuple

from data_pipeline.platform.errors import UserError, differences
from data_pipeline.platform.storage import Storage, in_threads

SETTINGS_KEY = "upscale.json"

# Raise it when the same settings and inputs give other pixels.
_VERSION = 1
_SHOWN = 3

_log = logging.getLogger(__name__)


class Settings(NamedTuple):
    """What determines a result, beside its picture.

    Attributes:
        input: Where the pictures are: keys of OUTPUT are relative to it.
        generator: Name of the generator, for people.
        sha256: The sha256 of the generator's file.
        scale: SR side over LR side, as the network makes it.
        outscale: The result's side over LR's; at most `scale`.
        self_ensemble: Whether SR is the mean over the eight flips and turns of LR.
        colour_fix: Whether SR gets the low frequencies of LR.
        ext: The suffix of the results, without its dot; None keeps each picture's.
        quality: Quality of JPEG and WebP, 1 to 100; None is the format's default.
    """

    input: str
    generator: str
    sha256: str
    scale: int
    outscale: float
    self_ensemble: bool = False
    colour_fix: bool = False
    ext: str | None = None
    quality: int | None = None


def final_size(height: int, width: int, outscale: float) -> tuple[int, int]:
    """Height and width of the result of an LR picture: rounded half up, at least 1."""
    return max(1, int(height * outscale + 0.5)), max(1, int(width * outscale + 0.5))


def claim(
    out: Storage, settings: Settings, results: Collection[str], *, overwrite: bool
) -> dict[str, float]:
    """Makes OUTPUT one of these settings, before the first result is written.

    With `overwrite` the results that are there are deleted first. So at any later moment what is
    there was made by the settings of `upscale.json`, and a call that is killed is gone on with by
    the same command without `overwrite`.

    Args:
        out: OUTPUT.
        settings: The settings.
        results: The keys of all results.
        overwrite: Whether to replace results and settings.

    Returns:
        The results that are there, and when each was written, in seconds since 1970.

    Raises:
        UserError: If OUTPUT has other settings, or one of the results and no settings.
    """
    wanted, names = _as_json(settings), set(results)
    listed = {one.key: one.changed for one in out.list()}
    there = {key: changed for key, changed in listed.items() if key in names}
    if overwrite:
        if there:
            _log.info("%s: deletes %d results, to make them anew", out.uri, len(there))
        in_threads(out.delete, there)
        out.write(SETTINGS_KEY, wanted)
        return {}
    if SETTINGS_KEY not in listed:
        if there:
            shown = ", ".join(sorted(there)[:_SHOWN])
            raise UserError(
                f"{out.uri}: holds {shown} already, and no {SETTINGS_KEY}: this command did not "
                "make it; pass --overwrite or another OUTPUT"
            )
        try:
            out.write_new(SETTINGS_KEY, wanted)
        except FileExistsError:
            _log.info("%s: another command began there meanwhile", out.uri)
    found = _read(out)
    if found.get("sha256") == settings.sha256:  # of a RUN that has another name now
        found["generator"] = settings.generator
    if changed := differences(found, json.loads(wanted)):
        raise UserError(
            f"{out.uri}: was made with other settings ({'; '.join(changed)}); pass --overwrite "
            "or another OUTPUT"
        )
    return there


def _as_json(settings: Settings) -> bytes:
    return (json.dumps({"version": _VERSION, **settings._asdict()}, indent=2) + "\n").encode()


def _read(out: Storage) -> dict[str, Any]:
    try:
        found = json.loads(out.read(SETTINGS_KEY))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(
            f"{out.uri}/{SETTINGS_KEY}: does not read as settings; pass --overwrite or another "
            "OUTPUT"
        )
    return found
