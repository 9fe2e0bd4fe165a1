"""The images to score: a data set's validation pairs, or any folder of HR images."""

from fractions import Fraction
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data_pipeline.images import Image, ImageError, as_rgb, decode_image, describe_size
from data_pipeline.imresize import Kernel, imresize
from data_pipeline.manifest import require_manifest
from data_pipeline.patches import crop_to_multiple, is_pair
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import ReadableStorage, in_threads, open_storage
from data_pipeline.prepare.sources import open_source
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.psnr_ssim import Scores, psnr, score

if TYPE_CHECKING:
    import keras


_LR_CUT = 2


class Pair(NamedTuple):
    """An image to score: HR uint8 [H, W, 1 or 3] and LR uint8 [H / scale, W / scale, 1 or 3]."""

    name: str
    hr: Image
    lr: Image


class File(NamedTuple):
    """An image: its name in the tables, its storage, its key and, if known, sha256 there.

    `fix` is what to do where it is another one.
    """

    name: str
    storage: ReadableStorage
    key: str
    sha256: str | None = None
    fix: str = "run the same command again"

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"{self.storage.uri}/{self.key}"

    def read(self) -> bytes:
        """The file's bytes. Raises UserError if they are gone or not what the manifest says."""
        try:
            data = self.storage.read(self.key)
        except OSError as error:
            raise UserError(f"{self.uri}: does not read: {error.strerror}") from error
        found = sha256_hex(data)
        if self.sha256 not in (None, found):
            raise UserError(f"{self.uri}: expected sha256 {self.sha256}, found {found}; {self.fix}")
        return data

    def decode(self) -> Image:
        """uint8 [H, W, 1 or 3]. Raises UserError as `read`, and if it does not decode."""
        try:
            return decode_image(self.read())
        except ImageError as error:
            raise UserError(f"{self.uri}: {error}") from error


class Benchmark(NamedTuple):
    """A named list of image pairs, decoded one by one.

    Attributes:
        name: Names the results' folder.
        scale: HR side over LR side.
        lr_kernel: What made the LR images; None for LR files of unknown origin.
        kernel: Of the bicubic baseline.
        hr: HR files.
        lr: LR files likewise, or None where LR is generated from HR.
    """

    name: str
    scale: int
    lr_kernel: Kernel | None
    kernel: Kernel
    hr: tuple[File, ...]
    lr: tuple[File, ...] | None

    def with_sha256(self) -> "Benchmark":
        """The same with the sha256 of every file: reads those of which it is not known."""
        hr, lr = (tuple(in_threads(_with_sha256, files)) for files in (self.hr, self.lr or ()))
        return self._replace(hr=hr, lr=lr or None)

    def protocol(self) -> dict[str, Any]:
        """What the tables of two runs must share to be compared.

        Every file's sha256 must be known.
        """
        files = [f"{file.name} {file.sha256}" for file in (*self.hr, *(self.lr or ()))]
        return {
            "images": f"{self.name}, {len(self.hr)}",
            "images sha256": sha256_hex("\n".join(files).encode()),
            "scale": self.scale,
            "LR": self.lr_kernel or "given",
            "kernel": self.kernel,
            "border": f"{self.scale} px cut",
            "rounding": "SR rounded to uint8",
            **{measure.title: measure.meaning for measure in MEASURES},
        }

    def part(self, start: int, count: int) -> "Benchmark":
        """At most `count` images from `start` on."""
        part = slice(start, start + count)
        return self._replace(hr=self.hr[part], lr=self.lr and self.lr[part])

    def pair(self, number: int) -> Pair:
        """Decodes the pair `number`; LR is generated where there are no LR files.

        Raises:
            UserError: Naming the file that does not decode, or the two that do not match.
        """
        hr_file = self.hr[number]
        hr = crop_to_multiple(hr_file.decode(), self.scale)
        if self.lr is None:
            return Pair(hr_file.name, hr, imresize(hr, Fraction(1, self.scale), self.kernel))
        lr_file = self.lr[number]
        lr = lr_file.decode()
        if not is_pair(hr, lr, self.scale):
            raise UserError(
                f"{hr_file.uri} {describe_size(hr)} is not {self.scale} times "
                f"{lr_file.uri} {describe_size(lr)}; pass the LR of this HR"
            )
        return Pair(hr_file.name, hr, lr)


def data_benchmark(uri: str, kernel: Kernel | None) -> Benchmark:
    """The validation images of a prepared data set.

    Its LR images are used unless `kernel` is another than the one that made them: LR is generated
    with it then. None means that one for the bicubic baseline too.

    Raises:
        UserError: If DATA is no finished data set or has no validation images.
    """
    storage = open_storage(uri)
    manifest = require_manifest(storage)
    if not manifest.valid:
        raise UserError(
            f"{storage.uri}: has no validation images; prepare with --valid-source, or pass --hr"
        )
    settings = manifest.settings
    made_by = None if settings.valid_lr_source else settings.kernel
    fix = "delete it and run the same jobs.prepare command again to restore it"
    hr = tuple(File(one.name, storage, one.hr.path, one.hr.sha256, fix) for one in manifest.valid)
    lr = tuple(File(one.name, storage, one.lr.path, one.lr.sha256, fix) for one in manifest.valid)
    return Benchmark(
        name=PurePosixPath(storage.uri).name,
        scale=settings.scale,
        lr_kernel=kernel or made_by,
        kernel=kernel or made_by or "matlab",
        hr=hr,
        lr=lr if kernel in (None, made_by) else None,
    )


def folder_benchmark(hr_uri: str, lr_uri: str | None, *, scale: int, kernel: Kernel) -> Benchmark:
    """A folder of HR images, with the LR images of the same names or LR made by `kernel`.

    The bicubic baseline is of the same kernel.

    An LR file may carry the usual suffix: 0801x4.png belongs to 0801.png.

    Raises:
        UserError: If a folder is missing or empty, or an HR image has no LR image.
    """
    source = open_source(hr_uri, "valid", lr_uri=lr_uri, scale=scale)
    lr = tuple(
        File(image.name, source.lr_storage, image.lr.key)
        for image in source.images
        if image.lr and source.lr_storage
    )
    folder = PurePosixPath(source.storage.uri)
    return Benchmark(
        name=folder.parent.name if folder.name.lower() == "hr" else folder.name,
        scale=scale,
        lr_kernel=None if lr else kernel,
        kernel=kernel,
        hr=tuple(File(image.name, source.storage, image.hr.key) for image in source.images),
        lr=lr or None,
    )


def _with_sha256(file: File) -> File:
    return file if file.sha256 else file._replace(sha256=sha256_hex(file.read()))


def upscale_pair(generator: "keras.Model", pair: Pair) -> Image:
    """SR of the pair's LR, of HR's shape; for a grey image the mean of the generator's channels."""
    from srgan.upscale import super_resolve  # imports TensorFlow, which baselines do without

    sr = super_resolve(generator, as_rgb(pair.lr))
    if pair.hr.shape[2] == 1:
        sr = np.floor(sr.mean(axis=2, keepdims=True) + 0.5).astype(np.uint8)
    return sr


def score_pair(pair: Pair, image: Image) -> Scores:
    """Scores an image of HR's shape, with a border of the scale.

    Raises:
        UserError: If the pair is too small to be scored.
    """
    try:
        return score(pair.hr, image, border=pair.hr.shape[0] // pair.lr.shape[0])
    except ValueError as error:
        raise UserError(f"{pair.name}: {error}; leave it out") from error


def lr_consistency(pair: Pair, image: Image, kernel: Kernel) -> float:
    """PSNR in dB between an image of HR's shape, downscaled, and the pair's LR.

    What is lost in it are colours and low frequencies, which LR determines. Two LR pixels are cut
    from every side: what is beyond the edge, which kernels treat differently, does not reach them.
    """
    scale = pair.hr.shape[0] // pair.lr.shape[0]
    cut = min(_LR_CUT, (min(pair.lr.shape[:2]) - 1) // 2)
    inner = slice(cut, -cut or None)
    lr = imresize(image, Fraction(1, scale), kernel)
    return psnr(pair.lr[inner, inner], lr[inner, inner])
