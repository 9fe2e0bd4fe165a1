"""libvips, set up once a process."""

import errno
import logging
import os
from functools import cache
from typing import Any, BinaryIO

from data_pipeline.pictures.formats import PictureFormat

_LOADERS = {
    "PNG": "pngload_source",
    "JPEG": "jpegload_source",
    "WebP": "webpload_source",
    "TIFF": "tiffload_source",
}


@cache
def libvips() -> Any:
    """The module pyvips. It takes a tenth of a second, so it is imported where it is needed.

    Its cache of operations is off: it would give the old pixels of a file that was written anew. It
    gets one thread, if the environment names no other number: its codecs use one.
    """
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    # What it logs of a file does not name the file. Errors come as exceptions.
    logging.getLogger("pyvips").setLevel(logging.CRITICAL)
    import pyvips

    pyvips.cache_set_max(0)
    return pyvips


def reason(error: Exception) -> str:
    """The last line of an error of libvips, which says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(error).__name__


def system_error(error: Exception) -> int | None:
    """The errno of the first error of the operating system that an error of libvips quotes."""
    numbers = {os.strerror(number): number for number in errno.errorcode}
    quoted = (line.rpartition(": ")[2].strip() for line in str(error).splitlines())
    return next((numbers[words] for words in quoted if words in numbers), None)


def opened(file: BinaryIO, format: PictureFormat) -> Any:
    """A picture file as libvips's image, to be read from the top; `file` must be kept open.

    Not by its name: libvips would choose among more readers than these four.

    Raises:
        pyvips.Error: If its header is damaged. Reading the pixels raises it, too.
    """
    load = getattr(libvips().Image, _LOADERS[format.name])
    source = libvips().Source.new_from_descriptor(file.fileno())
    return load(source, access="sequential", fail_on="error")


def block(image: Any, name: str) -> bytes | None:
    """A block of an image's metadata."""
    return bytes(image.get(name)) if image.get_typeof(name) else None
