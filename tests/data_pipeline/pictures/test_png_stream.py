import io

import numpy as np
import pytest
from PIL import Image

from data_pipeline.pictures.png_stream import uncompressed_png


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_pillow_reads_it(channels, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 31, channels)).astype(np.uint8)
    bands = (pixels[:1], pixels[1:1], pixels[1:150], pixels[150:])
    parts = uncompressed_png(bands, height=200, width=31, channels=channels, bits=8)
    with Image.open(io.BytesIO(b"".join(parts))) as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_a_part_is_small_and_comes_before_the_next_band():
    asked = []

    def bands():
        for top in range(0, 1000, 500):
            asked.append(top)
            yield np.zeros((500, 1000, 3), np.uint8)

    parts = uncompressed_png(bands(), height=1000, width=1000, channels=3, bits=8)
    next(parts)
    assert asked == []
    sizes = [len(next(parts)) for _ in range(8)]
    assert asked == [0]
    assert max(sizes + [len(part) for part in parts]) < 64 * 3001 + 2**16  # zlib's own
