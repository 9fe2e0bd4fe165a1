"""What an image is in this program. OpenCV's BGR is only inside `encode_png`."""

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


class ImageError(ValueError):
    """An image cannot be used. The message says why; the caller adds the image's name."""


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
