"""Images: what one is, and how it is read from and written to files."""

from data_pipeline.images.decode import SUFFIXES, decode_image, kind_of_unknown
from data_pipeline.images.image import Image, ImageError, as_rgb, describe_size, encode_png

__all__ = [
    "SUFFIXES",
    "Image",
    "ImageError",
    "as_rgb",
    "decode_image",
    "describe_size",
    "encode_png",
    "kind_of_unknown",
]
