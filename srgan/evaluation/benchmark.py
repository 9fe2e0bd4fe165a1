"""The images to score: a data set's validation pairs, or any folder of HR images."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data_pipeline.images import Image, ImageError, as_rgb, decode_image
from data_pipeline.imresize import Kernel, enlarge_nearest, imresize
from data_pipeline.manifest import require_manifest
from data_pipeline.pairs import doubt_about, fit_pair
from data_pipeline.patches import crop_to_multiple
from data_pipeline.platform.errors import UserError, differences
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import ReadableStorage, in_threads, open_storage
from data_pipeline.prepare.sources import open_source
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.psnr_ssim import PsnrSsim, score
from srgan.evaluation.table import BICUBIC, NEAREST

if TYPE_CHECKING:
    import keras

# Part of the protocol of people's own files: raise it when a file is decoded to other pixels.
# 2: PNG, TIFF and WebP are turned as they say; grey with opaque alpha is grey; OS/2 BMP has colour.
_DECODING = 2

_SAME = ("images sha256", "scale", "LR", "kernel")  # of the protocol: what the pictures depend on


class Pair(NamedTuple):
    """An image to score: HR uint8 [H, W, C] and LR uint8 [H / scale, W / scale, C], C is 1 or 3.

    `doubt` says why LR may not be of this HR; see `doubt_about`.
    """

    name: str
    hr: Image
    lr: Image
    doubt: str | None = None

    @property
    def scale(self) -> int:
        """HR side over LR side."""
        return int(self.hr.shape[0] // self.lr.shape[0])


class ImageFile(NamedTuple):
    """An image's file.

    Attributes:
        name: The image's name in the tables.
        storage: Where the file is.
        key: Its key there.
        sha256: Its sha256, if it is known.
        fix: What the user should do if its sha256 is another one.
    """

    name: str
    storage: ReadableStorage
    key: str
    sha256: str | None = None
    fix: str = "run the same command again"

    @property
    def uri(self) -> str:
        """Where the file is, for messages."""
        return f"{self.storage.uri}/{self.key}"

    def read(self) -> bytes:
        """The file's bytes. Raises UserError if it is gone or its sha256 is another one."""
        try:
            data = self.storage.read(self.key)
        except OSError as error:
            raise UserError(f"{self.uri}: does not read: {error.strerror}") from error
        found = sha256_hex(data)
        if self.sha256 not in (None, found):
            raise UserError(f"{self.uri}: expected sha256 {self.sha256}, found {found}; {self.fix}")
        return data

    def decode(self) -> Image:
        """uint8 [H, W, 1 or 3]. Raises UserError as `read` does, and if it does not decode."""
        try:
            return decode_image(self.read())
        except ImageError as error:
            raise UserError(f"{self.uri}: {error}") from error


class Benchmark(NamedTuple):
    """A named list of image pairs, decoded one by one.

    Attributes:
        name: The name of the results' folder.
        scale: HR side over LR side.
        lr_kernel: The kernel that made the LR images; None for LR files of unknown origin.
        kernel: The kernel of the bicubic baseline and of LR that is made from HR.
        hr: HR files.
        lr: LR files in the same order, or None where LR is made from HR.
        is_prepared: Whether the files are PNG files of jobs.prepare, not people's own.
    """

    name: str
    scale: int
    lr_kernel: Kernel | None
    kernel: Kernel
    hr: tuple[ImageFile, ...]
    lr: tuple[ImageFile, ...] | None
    is_prepared: bool

    def with_sha256(self) -> "Benchmark":
        """The same with the sha256 of every file; reads the files whose sha256 is not known."""
        hr, lr = (tuple(in_threads(_with_sha256, files)) for files in (self.hr, self.lr or ()))
        return self._replace(hr=hr, lr=lr or None)

    def protocol(self) -> dict[str, Any]:
        """What must be equal so that the tables of two runs can be compared.

        It is stored with the scores: another text here makes stored scores another protocol's.
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
            **({} if self.is_prepared else {"decoding": _DECODING}),
            **{measure.title: measure.meaning for measure in MEASURES},
        }

    def files(self) -> dict[str, Any]:
        """Where the images are; `same_benchmark` opens them again."""
        return {
            "hr": self.hr[0].storage.uri,
            "lr": self.lr[0].storage.uri if self.lr else None,
            "is_prepared": self.is_prepared,
        }

    def part(self, start: int, count: int) -> "Benchmark":
        """The images from number `start` on, at most `count` of them."""
        part = slice(start, start + count)
        return self._replace(hr=self.hr[part], lr=self.lr and self.lr[part])

    def pair(self, number: int) -> Pair:
        """Decodes the pair `number`; makes LR where there are no LR files.

        Raises:
            UserError: Naming the file that does not decode, or the two that do not match.
        """
        hr_file = self.hr[number]
        hr = hr_file.decode()
        if self.lr is None:
            hr = crop_to_multiple(hr, self.scale)
            return Pair(hr_file.name, hr, imresize(hr, Fraction(1, self.scale), self.kernel))
        lr_file = self.lr[number]
        try:
            hr, lr = fit_pair(hr, lr_file.decode(), self.scale, lr_file.uri)
        except ImageError as error:
            raise UserError(f"{hr_file.uri}: {error}") from error
        doubt = None if self.lr_kernel else doubt_about(hr, lr)
        return Pair(hr_file.name, hr, lr, doubt and f"{lr_file.uri} is {doubt}")


def data_benchmark(uri: str, kernel: Kernel | None) -> Benchmark:
    """The validation images of a prepared data set.

    Args:
        uri: DATA.
        kernel: The kernel of the bicubic baseline; None takes the one that made DATA's LR. Where it
            is another one than that, LR is made with it from HR; DATA's LR is not used.

    Raises:
        UserError: If DATA is not a finished data set or has no validation images.
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
    hr = tuple(
        ImageFile(one.name, storage, one.hr.path, one.hr.sha256, fix) for one in manifest.valid
    )
    lr = tuple(
        ImageFile(one.name, storage, one.lr.path, one.lr.sha256, fix) for one in manifest.valid
    )
    return Benchmark(
        name=PurePosixPath(storage.uri).name,
        scale=settings.scale,
        lr_kernel=kernel or made_by,
        kernel=kernel or made_by or "matlab",
        hr=hr,
        lr=lr if kernel in (None, made_by) else None,
        is_prepared=True,
    )


def folder_benchmark(hr_uri: str, lr_uri: str | None, *, scale: int, kernel: Kernel) -> Benchmark:
    """A folder of HR images.

    Args:
        hr_uri: The folder.
        lr_uri: The folder of their LR images, which have the same names, with or without the usual
            suffix: at scale 4, 0801x4.png belongs to 0801.png. None makes LR from HR.
        scale: HR side over LR side.
        kernel: The kernel of the bicubic baseline and of LR that is made.

    Raises:
        UserError: If a folder is missing or empty, or an HR image has no LR image.
    """
    source = open_source(hr_uri, "valid", lr_uri=lr_uri, scale=scale)
    lr = tuple(
        ImageFile(image.name, source.lr_storage, image.lr.key)
        for image in source.images
        if image.lr and source.lr_storage
    )
    folder = PurePosixPath(source.storage.uri)
    return Benchmark(
        name=folder.parent.name if folder.name.lower() == "hr" else folder.name,
        scale=scale,
        lr_kernel=None if lr else kernel,
        kernel=kernel,
        hr=tuple(ImageFile(image.name, source.storage, image.hr.key) for image in source.images),
        lr=lr or None,
        is_prepared=False,
    )


def same_benchmark(files: dict[str, Any], protocol: dict[str, Any]) -> Benchmark:
    """Opens the images of an evaluation again.

    Args:
        files: From `Benchmark.files`.
        protocol: Of the evaluation.

    Raises:
        UserError: If they are gone, or are others now.
    """
    kernel: Kernel = protocol["kernel"]
    if files["is_prepared"]:
        found = data_benchmark(files["hr"], None if protocol["LR"] == "given" else kernel)
    else:
        scale = protocol["scale"]
        found = folder_benchmark(files["hr"], files["lr"], scale=scale, kernel=kernel)
    found = found.with_sha256()
    if changed := other_pictures(protocol, found.protocol()):
        raise UserError(f"{files['hr']}: is not what was evaluated ({'; '.join(changed)})")
    return found


def other_pictures(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """How the pictures of two protocols differ; empty if they are the same."""
    return differences(*({key: one[key] for key in _SAME} for one in (stored, asked)))


def _with_sha256(file: ImageFile) -> ImageFile:
    return file if file.sha256 else file._replace(sha256=sha256_hex(file.read()))


def baselines(pair: Pair, kernel: Kernel) -> dict[str, Image]:
    """Nearest and bicubic enlargements of the pair's LR, of HR's shape, by method."""
    return {
        NEAREST: enlarge_nearest(pair.lr, pair.scale),
        BICUBIC: imresize(pair.lr, pair.scale, kernel),
    }


def upscale_pair(generator: "keras.Model", pair: Pair) -> Image:
    """SR of the pair's LR, of HR's shape; for a grey image the mean of the generator's channels."""
    from srgan.upscale import super_resolve  # imports TensorFlow, which the baselines do not need

    sr = super_resolve(generator, as_rgb(pair.lr))
    if pair.hr.shape[2] == 1:
        sr = np.floor(sr.mean(axis=2, keepdims=True) + 0.5).astype(np.uint8)
    return sr


def score_pair(pair: Pair, image: Image) -> PsnrSsim:
    """Scores an image of HR's shape; cuts a border as wide as the scale.

    Raises:
        UserError: If the pair is too small to be scored.
    """
    try:
        return score(pair.hr, image, border=pair.scale)
    except ValueError as error:
        raise UserError(f"{pair.name}: {error}; leave it out") from error
