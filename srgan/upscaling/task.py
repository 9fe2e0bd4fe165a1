"""One picture of an upscaling: a worker of the cluster reads, upscales and writes it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.images import ImageError, as_rgb
from data_pipeline.pictures.formats import format_of_suffix, refusal
from data_pipeline.platform.devices import use_devices
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.logs import configure_logging
from data_pipeline.platform.node import scratch_file
from data_pipeline.platform.progress import Progress
from data_pipeline.platform.storage import LocalStorage, Storage, UnusableStorageError
from srgan.upscaling.plan import Work
from srgan.upscaling.settings import Settings, final_size

if TYPE_CHECKING:
    from data_pipeline.pictures.read import Picture
    from srgan.trained import TrainedGenerator

_Levels = npt.NDArray[Any]  # uint8 or uint16

_LARGE = 4 << 20  # LR pixels: a picture above them shows a progress of its own


class UpscaleTask(NamedTuple):
    """A picture to upscale.

    Attributes:
        source: Where the picture is.
        target: Where the result goes.
        work: The picture and its result.
        generator: URI of the generator's file.
        settings: How to upscale.
        cpus: CPU cores that the process may use.
    """

    source: Storage
    target: Storage
    work: Work
    generator: str
    settings: Settings
    cpus: int


def upscale_picture(task: UpscaleTask) -> tuple[str, ...]:
    """Makes one result on the CPU; returns what its user should know about it.

    Raises:
        UserError: If the picture cannot be read, or its result cannot be written in this format.
            It names the picture.
    """
    use_devices(cpus=task.cpus, gpus=0)
    return _upscale(task)


class GpuUpscaler:
    """A process with a GPU of its own, which makes one result after the other."""

    def __init__(self) -> None:
        configure_logging()

    def upscale(self, task: UpscaleTask) -> tuple[str, ...]:
        """As `upscale_picture`, on the GPU."""
        use_devices(cpus=task.cpus, gpus=1)
        return _upscale(task)


def _upscale(task: UpscaleTask) -> tuple[str, ...]:
    key = task.work.source.key
    try:
        picture = _read(task.source, key)
        return (*picture.notes, *_write(task, picture))
    except UnusableStorageError:  # so are all other pictures: it stays as it is
        raise
    except (ImageError, UserError) as error:
        raise UserError(f"{key}: {error}") from error


def _read(source: Storage, key: str) -> "Picture":
    from data_pipeline.pictures.read import read_picture

    with _local_file(source, key) as path:
        try:
            return read_picture(path)
        except OSError as error:
            raise UserError(f"does not read: {error.strerror}") from error


@contextmanager
def _local_file(source: Storage, key: str) -> Iterator[Path]:
    """The picture's own file, or a copy of it for the time of the block."""
    if isinstance(source, LocalStorage):
        yield source.path(key)
        return
    with scratch_file(Path(key).name) as path:
        with path.open("wb") as file:
            for block in source.stream(key):
                file.write(block)
        yield path


def _write(task: UpscaleTask, picture: "Picture") -> tuple[str, ...]:
    """Makes and stores the result; returns what its format does not hold."""
    from data_pipeline.pictures.write import PictureWriter

    settings, samples, alpha = task.settings, picture.samples, picture.alpha
    kind = format_of_suffix(Path(task.work.target))
    assert kind  # as planned
    if alpha is not None and not kind.alpha and (alpha == np.iinfo(alpha.dtype).max).all():
        alpha = None  # opaque everywhere: nothing is lost
    height, width, channels = samples.shape
    bits = 8 * samples.dtype.itemsize
    final = final_size(height, width, settings.outscale)
    # Also the writer checks this, but only after the network is loaded and a file is begun.
    why = refusal(kind, height=final[0], width=final[1], bits=bits, alpha=alpha is not None)
    if why:
        raise UserError(why)
    generator = _generator(task.generator, settings.sha256)
    with (
        task.target.stage(task.work.target) as staged,
        PictureWriter(
            staged.path,
            height=height * settings.scale,
            width=width * settings.scale,
            channels=channels,
            alpha=alpha is not None,
            bits=bits,
            metadata=picture.metadata,
            format=kind,
            quality=settings.quality,
            final_size=final,
        ) as writer,
    ):
        whole = picture._replace(alpha=alpha)
        for band in _bands(generator, whole, settings, label=task.work.source.key):
            writer.write(band)
    return writer.notes


def _bands(
    generator: "TrainedGenerator", picture: "Picture", settings: Settings, *, label: str
) -> Iterator[_Levels]:
    """Bands of SR rows, of the picture's dtype and channels; alpha is the last one if it has any.

    Grey is the mean of the network's channels. Alpha never goes through the network.
    """
    from data_pipeline.pictures.alpha import enlarge_alpha, fill_transparent
    from srgan.upscale import bands

    samples: _Levels = picture.samples
    alpha: _Levels | None = picture.alpha
    scale = settings.scale
    if alpha is not None:
        samples = fill_transparent(samples, alpha)
    height, width, channels = samples.shape
    made = bands(
        generator.model,
        as_rgb(samples),
        self_ensemble=settings.self_ensemble,
        colour_fix=settings.colour_fix,
    )
    is_large = height * width > _LARGE
    with Progress(label, height, "rows") if is_large else nullcontext() as progress:
        top = 0
        for band in made:
            parts = [band if channels == 3 else _mean(band)]
            rows = slice(top, top + len(band) // scale)
            if alpha is not None:
                parts.append(enlarge_alpha(alpha, scale, rows)[..., None])
            yield np.concatenate(parts, axis=2) if len(parts) > 1 else parts[0]
            if progress:
                progress.advance(rows.stop - top)
            top = rows.stop


def _mean(band: _Levels) -> _Levels:
    """The mean of the channels, rounded half up: [h, w, 3] -> [h, w, 1]."""
    mean: _Levels = np.floor(band.mean(axis=2, keepdims=True) + 0.5).astype(band.dtype)
    return mean


@lru_cache(maxsize=1)
def _generator(uri: str, sha256: str) -> "TrainedGenerator":
    """All tasks of a process share one network, whose graphs are compiled once for each size."""
    from srgan.trained import open_generator

    generator = open_generator(uri, None)
    if generator.sha256 != sha256:
        raise UserError(f"{uri}: was written anew meanwhile; run the same command again")
    return generator
