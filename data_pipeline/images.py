"""Image files <-> arrays. OpenCV's BGR ends here: the rest of the program is RGB."""

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


class ImageError(ValueError):
    """An image cannot be used. The message says why; the caller adds the image's name."""


def decode_image(data: bytes) -> Image:
    """Decodes a PNG, JPEG or BMP file.

    Rounds 16-bit samples to 8 bits, applies a JPEG's EXIF orientation, and drops an alpha channel
    that is opaque everywhere.

    Args:
        data: The file's bytes.

    Returns:
        uint8 [H, W, 1] for a grey image, else uint8 [H, W, 3] RGB.

    Raises:
        ImageError: If the bytes do not decode, or the image is transparent somewhere.
    """
    is_jpeg = data.startswith(b"\xff\xd8")
    flags = cv2.IMREAD_ANYCOLOR if is_jpeg else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise ImageError(f"does not decode: {error.err}") from error
    if image is None:
        raise ImageError("does not decode: damaged or cut short, or not a PNG, JPEG or BMP")
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError(f"has {image.dtype} samples; convert it to 8 bits")
    if image.ndim == 2:
        return np.asarray(image[:, :, None], np.uint8)
    if image.shape[2] == 4:
        if image[:, :, 3].min() < 255:
            raise ImageError("is partly transparent; flatten it onto a background")
        image = image[:, :, :3]
    return np.ascontiguousarray(image[:, :, ::-1], np.uint8)


def as_rgb(image: Image) -> Image:
    """uint8 [H, W, 1 or 3] -> uint8 [H, W, 3]; grey is repeated."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def encode_png(image: Image) -> bytes:
    """Encodes uint8 [H, W, 1 or 3] (RGB) as PNG."""
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    done, encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise ValueError(f"OpenCV cannot encode {image.dtype} {image.shape} as PNG")
    return encoded.tobytes()


def describe_size(image: Image) -> str:
    """`(WxH, grey)` or `(WxH, RGB)`, for messages."""
    height, width, channels = image.shape
    return f"({width}x{height}, {'grey' if channels == 1 else 'RGB'})"
