"""Means over images that some method reproduces: tables, alerts, history, examples, by real scores.

An exact image has an infinite PSNR. It is left out for all methods but HR, and it is named.
"""

import csv
import datetime
import io
import json
import math
from fractions import Fraction

import numpy as np
import pytest

from data_pipeline.imresize import imresize
from data_pipeline.pairs import lr_psnr
from data_pipeline.platform.storage import open_storage
from srgan.evaluation.alerts import Limit, Limits, dropped, too_low
from srgan.evaluation.benchmark import Pair, baselines, score_pair
from srgan.evaluation.examples import choose_images
from srgan.evaluation.history import write_record
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.nightly import judge
from srgan.evaluation.plots import score_figure
from srgan.evaluation.report import Facts, report_html
from srgan.evaluation.results import RunEvaluation, on_same_images
from srgan.evaluation.score_files import ScoreFile
from srgan.evaluation.table import (
    EPOCH_COLUMNS,
    ImageScore,
    TableRun,
    images_left_out,
    left_out_notes,
    mean_values,
    measures_csv,
    psnr_csv,
    psnr_markdown,
    scores_csv,
)
from tests.conftest import photograph

PSNR, EVERY_PSNR = ("psnr_rgb", "psnr_y"), ("psnr_rgb", "psnr_y", "lr_psnr")


def photo(row: int) -> np.ndarray:
    return np.ascontiguousarray(photograph("astronaut.png")[row : row + 48, 200:248, ::-1])


def flat(value: int, channels: int = 3) -> np.ndarray:
    return np.full((48, 48, channels), value, np.uint8)


def blocks() -> np.ndarray:
    """Two colours in blocks of 8x8 pixels."""
    board = np.indices((6, 6)).sum(axis=0) % 2
    return np.array([[20, 60, 200], [240, 90, 10]], np.uint8)[board].repeat(8, 0).repeat(8, 1)


def scores_of(name, hr, *, lr=None, sr=None) -> list[ImageScore]:
    """By nearest, bicubic, a generator and HR. LR is made of HR unless it is given."""
    pair = Pair(name, hr, imresize(hr, Fraction(1, 4)) if lr is None else lr)
    made = baselines(pair, "matlab")
    darker = (made["bicubic"] * 0.9).astype(np.uint8) + 3  # no copy of any HR here
    images = made | {"srgan": darker if sr is None else sr, "hr": hr}
    return [
        ImageScore(
            1 if method == "srgan" else None,
            method,
            name,
            score_pair(pair, image)._asdict() | {"lr_psnr": lr_psnr(image, pair.lr, 4, "matlab")},
        )
        for method, image in images.items()
    ]


PHOTOS = scores_of("p0", photo(0)) + scores_of("p1", photo(60))
EXACT = {
    "black": (scores_of("exact", flat(0)), EVERY_PSNR),
    "white": (scores_of("exact", flat(255)), EVERY_PSNR),
    "flat and grey": (scores_of("exact", flat(77, 1)), EVERY_PSNR),
    "exact by nearest": (scores_of("exact", blocks(), lr=blocks()[::4, ::4]), PSNR),
    "exact by the generator": (scores_of("exact", photo(120), sr=photo(120)), EVERY_PSNR),
}


def strict(text: str):
    """As JSON, which has no Infinity and no NaN."""
    return json.loads(text, parse_constant=pytest.fail)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("kind", EXACT)
def test_an_exact_image_is_left_out_for_all_methods(kind):
    exact, keys = EXACT[kind]
    assert any(
        math.isinf(row.values[key]) for row in exact for key in keys if row.method != "hr"
    )  # without the rule these means would be infinite
    scores = PHOTOS + exact
    left_out = images_left_out(scores)
    assert left_out == dict.fromkeys(keys, ("exact",))
    means, alone = mean_values(scores, left_out), mean_values(PHOTOS, {})
    assert list(means) == list(alone)
    for method, values in means.items():
        assert {key: values[key] for key in keys} == {key: alone[method][key] for key in keys}
        ssim = [row.values["ssim_y"] for row in scores if row.method == method[0]]
        assert values["ssim_y"] == np.mean(ssim)  # a finite measure is over all images
        assert all(map(math.isfinite, values.values())) or method[0] == "hr"
    assert means["hr", None]["psnr_rgb"] == means["hr", None]["psnr_y"] == math.inf
    (note,) = left_out_notes(left_out, 3)
    assert note.endswith(": exact")
    assert "the means leave out 1 of 3 images" in note
    assert ("LR PSNR" in note) == ("lr_psnr" in keys)
    for row in rows(scores_csv(means, 3)):
        assert (row["psnr_rgb"] == "inf") == (row["method"] == "hr"), row


def test_without_an_exact_image_nothing_is_left_out():
    assert images_left_out(PHOTOS) == {}
    assert left_out_notes({}, 2) == []


def test_a_mean_without_an_image_is_absent_and_says_why():
    scores = scores_of("a", flat(0)) + scores_of("b", flat(255))
    left_out = images_left_out(scores)
    means = mean_values(scores, left_out)
    run, notes = TableRun("run", means), left_out_notes(left_out, 2)
    (note,) = notes
    assert note.startswith("PSNR RGB, PSNR Y, LR PSNR: the means leave out 2 of 2 images")
    assert note.endswith(": a, b; no image is left, so there is no mean (–)")
    assert rows(psnr_csv(means)) == [
        dict(zip(("epoch", *EPOCH_COLUMNS), ("1", "", "", "", "inf"), strict=True))
    ]
    bicubic, srgan, hr = (
        next(row for row in rows(measures_csv([run], 2)) if row["method"] == method)
        for method in ("bicubic", "srgan", "hr")
    )
    for row in (bicubic, srgan):
        assert [row[key] for key in EVERY_PSNR] == ["", "", ""]
        assert float(row["ssim_y"]) > 0.5
    assert hr["lr_psnr"] == "inf"
    markdown = psnr_markdown([run], [], notes, {"scale": 4}, {})
    assert "| 1 | – | – | – | inf |" in markdown
    assert markdown.index("All measures:") < markdown.index(note) < markdown.index("scale: 4")
    page = report_html(Facts("set", 2, ""), [run], [], notes=notes, protocol={}, generators={})
    assert f'<p class="note">{note}</p>' in page
    assert score_figure([run], MEASURES[1]) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_other_measure_makes_a_mean_that_is_not_finite(value):
    def with_niqe(row, niqe):
        return row._replace(values=row.values | {"niqe": niqe})

    scores = [with_niqe(row, value if row.image == "p1" else 5.0) for row in PHOTOS]
    left_out = images_left_out(scores)
    assert left_out == {"niqe": ("p1",)}
    assert {values["niqe"] for values in mean_values(scores, left_out).values()} == {5.0}
    nothing = [with_niqe(row, value) for row in PHOTOS]
    means = mean_values(nothing, images_left_out(nothing))
    assert not any("niqe" in values for (method, _), values in means.items() if method != "hr")


def test_an_image_that_is_too_small_for_a_measure_is_left_out_and_named():
    def with_lpips(row, value):
        is_large = row.image == "p0" or row.method == "nearest"
        return row._replace(values=row.values | ({"lpips": value} if is_large else {}))

    scores = [with_lpips(row, 0.2 if row.image == "p0" else 0.9) for row in PHOTOS]
    left_out = images_left_out(scores)
    assert left_out == {"lpips": ("p1",)}
    assert {values["lpips"] for values in mean_values(scores, left_out).values()} == {0.2}
    (note,) = left_out_notes(left_out, 2)
    assert note.startswith("LPIPS: the means leave out 1 of 2 images")
    without = [
        row if row.method == "bicubic" else row._replace(values=row.values | {"lpips": 0.3})
        for row in PHOTOS
    ]
    left_out = images_left_out(without)  # bicubic lacks it on every image, and leaves out none
    assert left_out == {}
    having = {key[0] for key, row in mean_values(without, left_out).items() if "lpips" in row}
    assert having == {"nearest", "srgan", "hr"}


def test_many_images_are_counted_and_three_named():
    (note,) = left_out_notes({"psnr_y": ("a", "b", "c", "d", "e")}, 9)
    assert "leave out 5 of 9 images" in note
    assert note.endswith(": a, b, c and 2 more")


def table(*images, epoch=1):
    scores = [
        row._replace(epoch=epoch if row.method == "srgan" else None)
        for image in images
        for row in image
    ]
    return mean_values(scores, images_left_out(scores))


def test_a_generator_that_is_exact_on_one_image_is_still_judged():
    means = table(PHOTOS, EXACT["exact by the generator"][0])
    (alert,) = too_low(means, 1, [Limit("psnr_y", 60), Limit("ssim_y", 0.1)])
    assert alert.text == f"epoch 1: psnr_y is {means['srgan', 1]['psnr_y']:.4f}, below 60"
    assert alert.limit == "psnr_y below 60"


def test_limits_that_differ_have_different_texts():
    means, reference = table(PHOTOS), TableRun("other", table(PHOTOS, epoch=7))
    limits = [Limit("psnr_y", 99.0), Limit("psnr_y", 99.0000001)]
    assert [alert.limit for alert in too_low(means, 1, limits)] == [
        "psnr_y below 99",
        "psnr_y below 99.0000001",
    ]
    limits = [Limit("psnr_y", -1.0), Limit("psnr_y", -1.0000001)]
    found = dropped(means, 1, limits, reference)
    assert [alert.text.rpartition(" ")[2] for alert in found] == ["-1", "-1.0000001"]
    assert len({alert.limit for alert in found}) == 2


def test_a_mean_that_is_absent_breaks_its_limits():
    nothing = table(EXACT["black"][0])
    limits = [Limit("psnr_y", -99), Limit("ssim_y", 0)]
    (below,) = too_low(nothing, 1, limits)
    reason = "epoch 1: psnr_y is absent: on no image has every method a finite value, so it "
    assert below.text == reason + "is not known to reach -99"
    drop = [Limit("psnr_y", 99), Limit("ssim_y", 99)]
    reference = TableRun("other", table(PHOTOS, epoch=7), uri="s3://runs/other")
    (alert,) = dropped(nothing, 1, drop, reference)
    assert alert.text == reason + "is not compared with other's epoch 7's"
    assert alert.limit == "psnr_y drop 99 from s3://runs/other"
    (alert,) = dropped(reference.means, 7, drop, TableRun("flat", nothing))
    assert alert.text.endswith("so it is not compared with flat's epoch 1's")


def evaluation(name, scores):
    means = mean_values(scores, images_left_out(scores))
    return RunEvaluation(name, None, None, {}, {name: ScoreFile(name, {}, "", scores)}, means)


def test_a_least_value_holds_for_the_runs_own_means_and_a_drop_for_those_of_both():
    """The history and the tables have the run's own means, so its least values go by them."""
    plain = PHOTOS + scores_of("exact", photo(120))
    other = evaluation("other", PHOTOS + EXACT["exact by the generator"][0])
    run = evaluation("run", plain)
    own, of_both = (
        table(plain)["srgan", 1]["psnr_y"],
        table(PHOTOS)["srgan", 1]["psnr_y"],
    )
    assert abs(own - of_both) > 0.1
    limits = Limits([Limit("psnr_y", 99)], [Limit("psnr_y", -1)])
    epoch, (least, drop) = judge(run, None, limits, other)
    assert epoch == 1
    assert least.text == f"epoch 1: psnr_y is {own:.4f}, below 99"
    assert drop.text.startswith(f"epoch 1: psnr_y is {of_both:.4f}, 0.0000 less than other's")


def test_compared_runs_have_means_over_the_same_images():
    """An image that one run's generator reproduces is left out for the other run too."""

    plain = PHOTOS + scores_of("exact", photo(120))
    one, other = on_same_images(
        [evaluation("one", plain), evaluation("other", PHOTOS + EXACT["exact by the generator"][0])]
    )
    for key in EVERY_PSNR:
        expected = mean_values(PHOTOS, {})["srgan", 1][key]
        assert one.means["srgan", 1][key] == other.means["srgan", 1][key] == expected
    assert one.means["srgan", 1]["ssim_y"] == mean_values(plain, {})["srgan", 1]["ssim_y"]


def test_the_history_has_null_where_a_mean_is_absent(tmp_path):
    out = open_storage(str(tmp_path))
    out.write("history/2020-01-01.json", b'{"time": "2020", "epoch": 1, "psnr_y": Infinity}')
    now = datetime.datetime.now(datetime.timezone.utc)
    for images in (EXACT["black"][0], PHOTOS + EXACT["black"][0]):
        now += datetime.timedelta(seconds=1)
        write_record(
            out, now, table(images), epoch=1, generator="ab", alerts=[], told=[], posted=[]
        )
    absent, present = (strict(out.read(item.key)) for item in out.list("history/")[1:])
    assert absent["psnr_y"] is absent["lr_psnr"] is absent["lpips"] is None
    assert present["psnr_y"] == round(table(PHOTOS)["srgan", 1]["psnr_y"], 4)
    old, first, second = rows(out.read("history.csv").decode())
    assert (old["time"], old["psnr_y"], first["psnr_y"]) == ("2020", "", "")
    assert second["psnr_y"] == str(present["psnr_y"])
    assert float(first["ssim_y"]) > 0


@pytest.mark.parametrize("kind", EXACT)
def test_examples_are_chosen_among_images_with_a_finite_gain(kind):
    scores = PHOTOS + EXACT[kind][0]
    judged = [row for row in scores if row.method == "srgan"]
    chosen = choose_images(scores, judged)
    assert set(chosen) == {"p0", "p1"} | ({"exact"} if kind == "exact by nearest" else set())
    assert not any("inf" in why or "nan" in why for why in chosen.values())
    (only,) = choose_images(EXACT["black"][0], None).items()
    assert only == ("exact", "no image has a finite PSNR (Y) to choose by")
