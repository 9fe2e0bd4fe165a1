import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.patches import aligned_patches, crop_to_multiple, patch_offsets


def test_offsets_end_flush_with_the_far_edge():
    assert patch_offsets(1356, 480, 240) == [0, 240, 480, 720, 876]
    assert patch_offsets(2040, 480, 240) == [0, 240, 480, 720, 960, 1200, 1440, 1560]
    assert patch_offsets(480, 480, 240) == [0]
    assert patch_offsets(479, 480, 240) == []


def test_hr_and_lr_show_the_same_pixels_and_cover_the_image():
    height, width, scale = 26, 37, 4
    lr = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3)
    hr = lr.repeat(scale, axis=0).repeat(scale, axis=1)
    seen = np.zeros(hr.shape[:2], bool)
    for top, left, hr_patch, lr_patch in aligned_patches(
        hr, lr, scale=scale, patch_size=32, stride=24
    ):
        np.testing.assert_array_equal(hr_patch[::scale, ::scale], lr_patch)
        np.testing.assert_array_equal(hr_patch, hr[top : top + 32, left : left + 32])
        seen[top : top + 32, left : left + 32] = True
    assert seen.all()


def test_crop_to_multiple():
    assert crop_to_multiple(np.zeros((97, 99, 3), np.uint8), 4).shape == (96, 96, 3)


@pytest.mark.parametrize(
    ("lr_shape", "patch_size", "stride"),
    [((10, 10, 3), 16, 6), ((10, 10, 3), 18, 8), ((9, 10, 3), 16, 8)],
)
def test_what_does_not_align_is_refused(lr_shape, patch_size, stride):
    hr, lr = np.zeros((40, 40, 3), np.uint8), np.zeros(lr_shape, np.uint8)
    with pytest.raises(ValueError, match=r"multiples of|is not 4 times"):
        list(aligned_patches(hr, lr, scale=4, patch_size=patch_size, stride=stride))


@pytest.mark.parametrize("side", range(480, 2041, 12))  # DIV2K's sides are multiples of 12
def test_div2k_geometry(side):
    """The usual 480/240 cut, which gives 32,592 sub-images of DIV2K's 800 training images."""
    offsets = patch_offsets(side, 480, 240)
    assert len(offsets) == -(-(side - 480) // 240) + 1
    assert offsets[-1] == side - 480


def test_a_div2k_image_gives_as_many_patches_as_the_published_list_has(benchmark_sets):
    data = (benchmark_sets / "div2k/train_HR/0004.png").read_bytes()
    height, width = decode_image(data).shape[:2]
    assert len(patch_offsets(height, 480, 240)) * len(patch_offsets(width, 480, 240)) == 40
