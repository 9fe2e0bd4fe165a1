"""Which sources are refused as mixtures: layouts of public data sets, and ordinary albums."""

import re

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import StoredObject
from data_pipeline.prepare.mixtures import refuse_mixtures
from data_pipeline.prepare.sources import open_source


def files(*patterns: tuple[str, int], numbers=range(1, 4)) -> list[StoredObject]:
    """Files of these name patterns and bytes, for every number."""
    return [StoredObject(name.format(n), size) for n in numbers for name, size in patterns]


def names_in(error) -> tuple[str, ...]:
    return tuple(re.search(r"images \((.*)\); pass", str(error.value))[1].split(", "))


def refused(objects, kinds: str) -> tuple[str, ...]:
    with pytest.raises(UserError, match=rf"^photos: holds {kinds} images \(.*\); pass ") as error:
        refuse_mixtures([*objects, StoredObject("other/photo.png", 999)], "photos")
    return names_in(error)


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X4/0001x4.png"),
        ("DIV2K_train_HR/0001.png", "DIV2K_train_LR_unknown/X3/0001x3.png"),
        ("DIV2K_train_HR/0001.png", "DIV2K_train_LR_x8/0001x8.png"),
        ("DIV2K_train_HR/0001.png", "DIV2K_train_LR_mild/0001x4m.png"),
        ("DIV2K_train_HR/0001.png", "DIV2K_train_LR_difficult/0001x4d.png"),
        ("DIV2K_train_HR/0001.png", "DIV2K_train_LR_wild/0001x4w1.png"),
        ("DIV2K_train_HR_sub/0001_s001.png", "DIV2K_train_LR_bicubic/X4_sub/0001_s001.png"),
        ("DIV8K_train_HR/0001.png", "DIV8K_train_LR_bicubic/X16/0001x16.png"),
        ("Flickr2K/Flickr2K_HR/000001.png", "Flickr2K/Flickr2K_LR_bicubic/X4/000001x4.png"),
        ("Set5/GTmod12/baby.png", "Set5/LRbicx4/baby.png"),
        ("Set14/original/baboon.png", "Set14/LRbicx4/baboon.png"),
        ("Manga109/GTmod12/ARMS.png", "Manga109/LRbicx4/ARMS.png"),
        ("General100/HR/im_1.png", "General100/LR_bicubic/X4/im_1x4.png"),
        ("Set5/image_SRF_4/img_001_SRF_4_HR.png", "Set5/image_SRF_4/img_001_SRF_4_LR.png"),
        ("BSD100/image_SRF_2/img_001_SRF_2_HR.png", "BSD100/image_SRF_2/img_001_SRF_2_LR.png"),
        ("HR/Set5/x4/baby_HR_x4.png", "LR/LRBI/Set5/x4/baby_LRBI_x4.png"),
        ("T91/LRbicx4/target/t1_001.png", "T91/LRbicx4/inputs/t1_001.png"),
        ("Canon/Train/4/Canon_001_HR.png", "Canon/Train/4/Canon_001_LR4.png"),
        ("Nikon/train/x4/HR/Nikon_001.png", "Nikon/train/x4/LR/Nikon_001.png"),
        ("Test_x4/test_HR/DSC_1286_x4.png", "Test_x4/test_LR/DSC_1286_x1.png"),
        ("REDS/train_sharp/000/00000000.png", "REDS/train_sharp_bicubic/X4/000/00000000.png"),
        ("REDS4/GT/000/00000000.png", "REDS4/sharp_bicubic/000/00000000.png"),
        ("Vid4/GT/calendar/001.png", "Vid4/BIx4/calendar/001.png"),
        ("UCMerced/HR_x4/test/a.png", "UCMerced/LR_x4/test/a.png"),
        ("valid/hr/a.png", "valid/lr_x4/a.png"),
        ("trainHR/a.png", "trainLR/a.png"),
        ("HRimages/a.png", "LRimages/a.png"),
        ("HRx4/a.jpg", "LRx4/a.jpg"),
        ("GT/a.png", "LQ/a.png"),
        ("HR/a.png", "X4/a.png"),
        ("HR/a.png", "x4/a.png"),
        ("HR/a.png", "bicubic/a.png"),
        ("HR/a.png", "LR_bicubic/X4/ax4.png"),
        ("Hr/a.png", "lR/a.jpg"),
        ("high_res/a.png", "low_res/a.png"),
        ("High Resolution/a.png", "Low Resolution/a.png"),
        ("hi-res/a.png", "low-res/a.png"),
        ("original/a.png", "small/a.png"),
        ("Urban100/img_001_GT.png", "Urban100/img_001_LQ.png"),
    ],
)
def test_names_that_state_hr_and_lr_are_enough(hr, lr):
    """Of one pair, and of any bytes: RealSR's HR and LR have the same size in pixels."""
    assert refused([StoredObject(lr, 100), StoredObject(hr, 100)], "HR and LR") == (hr, lr)


LIKELY = [
    ("080{}.png", "080{}x4.png"),
    ("photos/IMG_{}.jpg", "photos/LR/IMG_{}.jpg"),
    ("photos/{}.png", "LR/{}.png"),
    ("large/{}.png", "small/{}.png"),
    ("high/{}.png", "low/{}.png"),
    ("ffhq/hr_128/0000{}.png", "ffhq/lr_16/0000{}.png"),
    ("vimeo_septuplet/sequences/1/1/im{}.png", "vimeo_septuplet_BDLRx4/sequences/1/1/im{}.png"),
    ("X4/HIGH_x4_URban100/img_{}_SRF_4_HR.png", "X4/LOW_x4_URban100/img_{}_SRF_4_LR.png"),
    ("2021/a{}.jpg", "a{}x2.jpg"),
]


@pytest.mark.parametrize(("hr", "lr"), LIKELY)
def test_names_that_state_lr_alone_are_enough_for_many_small_files(hr, lr):
    found = refused(files((hr, 1000), (lr, 500)), "HR and LR")
    assert found == (hr.format(1), lr.format(1))


@pytest.mark.parametrize(("hr", "lr"), LIKELY)
def test_names_that_state_lr_alone_are_not_enough(hr, lr):
    refuse_mixtures(files((hr, 1000), (lr, 501)), "photos")  # of equal scale
    refuse_mixtures(files((hr, 1000), (lr, 100), numbers=[1]), "photos")  # one by chance
    few = files((lr, 100), numbers=range(9)) + files((hr, 1000), numbers=range(4))
    refuse_mixtures(few, "photos")  # a few by chance


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        ("DIV2K_train_HR/0001.png", "DIV2K_valid_HR/0801.png"),
        ("train/a.png", "val/b.png"),
        ("Train/HR/a.png", "valid/HR/b.png"),
        ("train/n01440764/a.png", "val/b.png"),
        ("images/training/a.png", "images/validation/b.png"),
        ("BSDS500/images/train/100075.jpg", "BSDS500/images/val/101085.jpg"),
        ("train2017/a.jpg", "val2017/b.jpg"),
        ("REDS/train_sharp/000/0.png", "REDS/val_sharp/000/0.png"),
    ],
)
def test_folders_equal_but_for_train_and_valid_are_refused(train, valid):
    objects = [StoredObject(valid, 100), StoredObject(train, 100)]
    assert refused(objects, "training and validation") == (train, valid)


@pytest.mark.parametrize(
    "patterns",
    [
        ("2019/01/IMG_{}.jpg", "2019/02/IMG_{}.jpg", "2020/IMG_{}.jpg"),
        ("LR4/IMG_{}.jpg", "2019/IMG_{}.jpg"),  # of Lightroom
        ("LR exports/IMG_{}.jpg", "2019/IMG_{}.jpg"),
        ("IMG_{}-LR.png", "IMG_{}.png"),
        ("DSLR/IMG_{}.jpg", "IMG_{}.jpg"),
        ("low tide/IMG_{}.jpg", "high tide/IMG_{}.jpg", "tide/IMG_{}.jpg"),
        ("GT cars/{}.jpg", "X4 BMW/{}.jpg", "BMW/{}.jpg"),
        ("X4/{}.jpg", "X5/{}.jpg"),
        ("panorama 2x3/{}.jpg", "panorama/{}.jpg"),
        ("panorama {} 2x3.jpg", "panorama {}.jpg"),
        ("tile_{}.png", "tile_{}x1.png", "tile_{}x2.png", "tile_{}x3.png", "tile_{}x4.png"),
        ("tiles/{}x3.png", "tiles/{}x4.png"),
        ("fo{}.png", "fox{}.png"),
        ("Train ride to Bern/{}.jpg", "Val d'Isere/{}.jpg"),
        ("trains/{}.png", "valley/{}.png"),
        ("train/{}.png", "holidays/val/{}.png"),
        ("a/x{}.png", "b/x{}.png"),
    ],
)
def test_albums_of_like_names_pass(patterns):
    refuse_mixtures(files(*((pattern, 1000) for pattern in patterns)), "photos")


@pytest.mark.parametrize(
    "patterns",
    [
        ("fo.png", "fox2.png"),
        ("tile_3.png", "tile_3x4.png"),
        ("matrix2.png", "box4.png"),
        ("IMG_{}.jpg", "IMG_{}(2).jpg"),
        ("photo{}.jpg", "photo{}_small.jpg"),  # a thumbnail that someone made
        ("2x/icon{}.png", "1x/icon{}.png"),
        ("icon{}@2x.png", "icon{}.png"),
        ("flags/hr.png", "flags/lr.png"),  # Croatia, Liberia
        ("GTmod12/{}.png", "original/{}.png"),
        ("X2/000{}x2.png", "X4/000{}x4.png"),
        ("vimeo_septuplet/sequences/00001/0001/im{}.png", "vimeo_septuplet/sequences/2/1/im{}.png"),
        ("DF2K_HR/000{}.png", "DF2K_multiscale/000{}T2.png"),  # Real-ESRGAN's smaller HR
        ("General100/im_{}.bmp", "T91/t{}.bmp"),
    ],
)
def test_no_mixture_at_any_size(patterns):
    one, other = patterns
    objects = {file.key: file for file in files((one, 1000), (other, 100))}
    refuse_mixtures([*objects.values()], "photos")


def touch(folder, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not read here")
    return str(folder)


def test_the_advice_works(tmp_path):
    root = touch(tmp_path, "HR/a.png", "LR/a.png", "train/b.png", "val/c.png")
    advice = r"pass a folder with the HR images alone. If LR/a.png is no LR image, rename it or its"
    with pytest.raises(UserError, match=advice):
        open_source(root, "train", scale=4)
    (tmp_path / "LR").rename(tmp_path / "Lightroom")
    with pytest.raises(UserError, match="To take both, rename one of the two folders"):
        open_source(root, "train", scale=4)
    (tmp_path / "val").rename(tmp_path / "more")
    assert len(open_source(root, "train", scale=4).images) == 4
    links = tmp_path.with_name("links")
    links.mkdir()
    (links / "one").symlink_to(tmp_path / "train")
    (links / "two").symlink_to(tmp_path / "more")
    assert len(open_source(str(links), "train", scale=4).images) == 2


def test_lr_files_may_be_what_they_are(tmp_path):
    hr = touch(tmp_path / "photos", "train/a.png", "b.png")
    lr = touch(
        tmp_path / "LR", "train/a.png", "b.png", "bx2.png", "HR/b.png", "LR/b.png", "val/c.png"
    )
    assert len(open_source(hr, "train", lr_uri=lr, scale=4).images) == 2
