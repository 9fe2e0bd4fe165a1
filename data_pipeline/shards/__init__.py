"""Shard files: raw uint8 HR/LR patches with random access, in one of two formats."""

from typing import Literal, NamedTuple, Protocol

from data_pipeline.images import Image
from data_pipeline.patches import Patch

ShardFormat = Literal["arrow", "tfrecord"]


class Geometry(NamedTuple):
    """Sides of the square HR and LR patches, in pixels."""

    hr_size: int
    lr_size: int


class ShardWriter(Protocol):
    """Writes one shard file. A context manager: the file is complete when the block ends.

    Attributes:
        offsets: Byte offsets of each (HR, LR) patch in the file; empty if the reader needs none.
    """

    offsets: list[tuple[int, int]]

    def __enter__(self) -> "ShardWriter": ...

    def __exit__(self, *error: object) -> None: ...

    def write(self, image_name: str, patches: list[Patch]) -> None:
        """Appends an image's patches."""


class ShardReader(Protocol):
    """Random access to the patches of one shard file, without a copy."""

    def __len__(self) -> int: ...

    def pair(self, index: int) -> tuple[Image, Image]:
        """Views of a patch: HR uint8 [hr_size, hr_size, 3], LR uint8 [lr_size, lr_size, 3]."""
