import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.imresize import imresize
from data_pipeline.manifest import require_manifest
from data_pipeline.platform.progress import data_size
from data_pipeline.platform.storage import open_storage
from data_pipeline.prepare.describe import agreement, contact_sheet, sample_pairs, summary
from tests.data_pipeline.loading.test_cache import make_data

MARGIN = 4
HR, SCALE = 48, 4


def opened(folder):
    storage = open_storage(str(folder))
    return storage, require_manifest(storage)


def sheet_of(storage, manifest, seed: int = 0) -> np.ndarray:
    pairs = sample_pairs(storage, manifest, seed=seed)
    return decode_image(contact_sheet(pairs, scale=manifest.settings.scale))


def cells(sheet: np.ndarray, hr_size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The (left, right) halves of every cell, row by row, after a check of the grey margins."""
    height, width = hr_size + 2 * MARGIN, 2 * (hr_size + MARGIN)
    assert sheet.shape[0] % height == 0
    assert sheet.shape[1] == 3 * width
    found = []
    for top in range(0, sheet.shape[0], height):
        for left in range(0, sheet.shape[1], width):
            cell = sheet[top : top + height, left : left + width].copy()
            inner = cell[MARGIN:-MARGIN, MARGIN:-MARGIN].copy()
            cell[MARGIN:-MARGIN, MARGIN:-MARGIN] = 128
            assert (cell == 128).all()
            found.append((inner[:, :hr_size], inner[:, hr_size:]))
    return found


def test_the_summary_says_what_the_manifest_says(small_data, photos, valid_photos):
    storage, manifest = opened(small_data)
    found = dict(line.split("  ", 1) for line in summary(storage, manifest).splitlines())
    found = {name.strip(): text.strip() for name, text in found.items()}
    shards = sum(path.stat().st_size for path in small_data.glob("train/*"))
    pngs = sum(path.stat().st_size for path in small_data.glob("valid/*/*"))
    assert found == {
        "data set": str(small_data),
        "source": str(photos),
        "LR": "made by the matlab kernel",
        "scale": "x4",
        "training": f"6 images, {sum(shard.patches for shard in manifest.shards)} patches",
        "patches": "48 px HR, 12 px LR, every 24 px",
        "shards": f"1 arrow, {data_size(shards)}",
        "validation": f"3 images, {data_size(pngs)}, from {valid_photos}",
        "manifest": f"format 2, sha256 {manifest.sha256()}",
    }


def test_cells_are_aligned_pairs_and_all_differ(small_data):
    sheet = sheet_of(*opened(small_data))
    pairs = cells(sheet, HR)
    assert len(pairs) == 12
    for left, right in pairs:
        lr = left[::SCALE, ::SCALE]
        np.testing.assert_array_equal(left, lr.repeat(SCALE, 0).repeat(SCALE, 1))
        # At a patch's border the kernel saw its neighbourhood.
        shrunk = imresize(right, 1 / SCALE)[2:-2, 2:-2].astype(int)
        np.testing.assert_allclose(shrunk, lr[2:-2, 2:-2], atol=1)
    assert len({right.tobytes() for _, right in pairs}) == 12


def test_a_seed_gives_one_picture(small_data):
    data = opened(small_data)
    first = sheet_of(*data, seed=1)
    np.testing.assert_array_equal(sheet_of(*data, seed=1), first)
    assert (sheet_of(*data, seed=2) != first).any()


@pytest.mark.parametrize(("patches", "rows"), [(1, 1), (4, 2), (13, 4)])
def test_few_patches_give_a_smaller_picture(tmp_path, patches, rows):
    manifest = make_data(tmp_path / "data", 1, patches)
    sheet = sheet_of(open_storage(str(tmp_path / "data")), manifest)
    pairs = cells(sheet, 24)
    assert len(pairs) == 3 * rows
    blank = [(left == 128).all() and (right == 128).all() for left, right in pairs]
    assert blank == [number >= patches for number in range(3 * rows)]


def test_the_text_says_how_near_lr_is_and_to_what(small_data):
    storage, manifest = opened(small_data)
    pairs = sample_pairs(storage, manifest)
    text = "LR of 12 random pairs against HR downscaled by the {} kernel: "
    equal = agreement(pairs, manifest.settings)
    assert equal == text.format("matlab") + "equal"
    turned = [(hr, lr[::-1, ::-1]) for hr, lr in pairs]
    found = agreement(turned, manifest.settings)
    least, middle = (float(part.split()[0]) for part in found.split(": ")[1].split(", "))
    assert least < middle < 20
    assert agreement([*turned[:5], *pairs[5:]], manifest.settings).endswith(
        " in the middle, 7 are equal"
    )
    # LR files of unknown origin are compared by the kernel that they come nearest to.
    given = manifest.settings.model_copy(update={"lr_source": "lr"})
    made = [(hr, imresize(hr, 1 / SCALE, "opencv")) for hr, _ in pairs]
    assert agreement(made, given) == text.format("opencv") + "equal"
    assert agreement(pairs, given) == equal
    assert agreement(made, manifest.settings).startswith(text.format("matlab"))
    assert "equal" not in agreement(made, manifest.settings)
