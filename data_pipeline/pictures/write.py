"""Writes a picture band by band, while its next rows are computed.

libvips pulls what it writes. So it runs in a thread, and reads an uncompressed PNG that grows with
every band. PNG, TIFF, JPEG and BMP are never whole in memory; WebP is, in its encoder.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

import numpy as np
import numpy.typing as npt

from data_pipeline.images import ImageError
from data_pipeline.pictures.encode import Wanted, check, encode
from data_pipeline.pictures.formats import PictureFormat, refusal
from data_pipeline.pictures.metadata import Metadata
from data_pipeline.pictures.png_stream import uncompressed_png
from data_pipeline.pictures.vips import reason, system_error

Band = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class PictureWriter:
    """Writes a picture to a file: a context manager. After its block the file is whole and checked.

    After an error, in the block or of the encoder, no file is left.

    Attributes:
        notes: After the block: what of the metadata the format does not hold, a sentence each.
    """

    def __init__(
        self,
        path: Path,
        *,
        height: int,
        width: int,
        channels: int,
        alpha: bool,
        bits: int,
        metadata: Metadata,
        format: PictureFormat,
        quality: int | None = None,
        final_size: tuple[int, int] | None = None,
    ) -> None:
        """Checks that the format can hold the picture. Opens nothing.

        Args:
            path: The file. It need not have the format's suffix. One that is there is replaced.
            height: Rows of all bands.
            width: Pixels of a row.
            channels: 1 grey or 3 RGB.
            alpha: Whether the bands have one more channel, the transparency.
            bits: 8 or 16, of a sample.
            metadata: What is written beside the pixels; of the upright picture.
            format: One of FORMATS.
            quality: 1 to 100, of JPEG and WebP; None for the format's default.
            final_size: (height, width) of the file, if it is smaller: shrunk by a bicubic kernel,
                which is widened against aliasing.

        Raises:
            ImageError: If the format cannot hold such a picture. The message names the fix.
            ValueError: If the final size is larger.
        """
        final_height, final_width = final_size or (height, width)
        if final_height > height or final_width > width:
            raise ValueError(f"{final_width}x{final_height} is larger than {width}x{height}")
        why = refusal(format, height=final_height, width=final_width, bits=bits, alpha=alpha)
        if why is not None:
            raise ImageError(why)
        self._wanted = Wanted(
            path=path,
            height=final_height,
            width=final_width,
            channels=channels + alpha,
            bits=bits,
            metadata=metadata,
            format=format,
            quality=quality or format.quality,
        )
        self._height, self._width = height, width
        self._missing = height  # rows
        self._bands: SimpleQueue[Band | None] = SimpleQueue()
        self._free = threading.Semaphore()  # whether the band before is encoded
        self._error: Exception | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="picture writer", daemon=True)
        self.notes: tuple[str, ...] = ()

    def __enter__(self) -> "PictureWriter":
        """Starts the encoder."""
        self._thread.start()
        return self

    def write(self, band: Band) -> None:
        """Takes the next rows. Waits until the rows of the call before are encoded.

        So two bands are in memory: one is encoded while the caller makes the next.

        Args:
            band: uint8 or uint16 [h, width, channels, one more with alpha]. It must not change
                afterwards.

        Raises:
            ValueError: If the band's shape or type is not as said, or there are too many rows.
            OSError: If the file cannot be written.
        """
        shape, dtype = (self._width, self._wanted.channels), np.dtype(f"u{self._wanted.bits // 8}")
        if band.shape[1:] != shape or band.dtype != dtype:
            raise ValueError(
                f"expected {dtype} [rows, {shape[0]}, {shape[1]}], got {band.dtype} {band.shape}"
            )
        if len(band) > self._missing:
            raise ValueError(f"got more rows than {self._height}")
        self._free.acquire()
        if self._ended:
            self._free.release()
            raise self._failure()
        self._missing -= len(band)
        self._bands.put(band)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for the encoder, then opens the file and checks it.

        Raises:
            ValueError: If rows are missing.
            OSError: If the file could not be written.
        """
        whole = False
        try:
            self._bands.put(None)
            self._thread.join()
            if kind is not None:
                return
            if self._missing:
                raise ValueError(f"got only {self._height - self._missing} of {self._height} rows")
            if self._error is not None:
                raise self._failure()
            self.notes = check(self._wanted)
            whole = True
        finally:
            if not whole:
                self._wanted.path.unlink(missing_ok=True)

    def _failure(self) -> OSError:
        """The encoder's error, for the caller, who must be able to tell a full disk."""
        error, path = self._error, self._wanted.path
        assert error is not None  # it ended before the last row
        number = error.errno if isinstance(error, OSError) else system_error(error)
        if number is None:
            failure = OSError(f"{path}: cannot be written: {reason(error)}")
        else:
            failure = OSError(number, os.strerror(number), str(path))
        failure.__cause__ = error
        return failure

    def _run(self) -> None:
        """The thread."""
        png = uncompressed_png(
            self._taken(),
            height=self._height,
            width=self._width,
            channels=self._wanted.channels,
            bits=self._wanted.bits,
        )
        try:
            encode(png, self._wanted)
        except Exception as error:  # the caller raises it
            self._error = error
        finally:
            self._ended = True
            self._free.release()

    def _taken(self) -> Iterator[Band]:
        """The bands, until the caller ends."""
        while (band := self._bands.get()) is not None:
            yield band
            del band
            self._free.release()
