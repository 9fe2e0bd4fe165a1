import base64
import html
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from data_pipeline.images import decode_image
from srgan.evaluation.comparison import Panel
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.plots import discriminator_figure, loss_figure, score_figure, svg
from srgan.evaluation.report import Example, report_html
from srgan.evaluation.table import TableRun
from tests.conftest import photograph

HOSTILE = """<script>alert(1)</script>"'></text></svg><img src=x onerror=alert(2)>$\\frac{$"""
MEASURE = {measure.key: measure for measure in MEASURES}
BASELINES = {
    ("nearest", None): {"psnr_rgb": 24.816, "psnr_y": 26.203, "ssim_y": 0.74281},
    ("bicubic", None): {"psnr_rgb": 26.127, "psnr_y": 27.554, "ssim_y": 0.80214},
    ("hr", None): {"psnr_rgb": math.inf, "psnr_y": math.inf, "ssim_y": 1.0},
}
TRAINED = BASELINES | {
    ("srresnet", None): {"psnr_rgb": 27.449, "psnr_y": 28.881, "ssim_y": 0.82991},
    ("srgan", 10): {"psnr_rgb": 26.911, "psnr_y": 28.312, "ssim_y": 0.81237, "vgg54": 0.04312},
    ("srgan", 20): {"psnr_rgb": 26.474, "psnr_y": 28.393, "ssim_y": 0.81119, "vgg54": 0.03987},
}
RECORDS = [
    {"phase": "pretrain", "epoch": 1, "step": 5, "mse": 0.04, "generator_loss": 0.04},
    {"phase": "pretrain", "epoch": 2, "step": 10, "mse": 0.02, "generator_loss": 0.02},
    {"phase": "gan", "epoch": 1, "step": 15, "vgg54": 0.5, "d_hr": 0.75, "d_sr": 0.25},
]
PROTOCOL = {"images": "Set5, 5", "scale": 4, "kernel": "matlab"}


def run(name="demo", means=TRAINED, records=(), config=""):
    return TableRun(name, means, records, config)


def page(runs, *, name="Set5", examples=(), notes=(), protocol=PROTOCOL, generators=None):
    return report_html(
        name, runs, examples, notes=notes, protocol=protocol, generators=generators or {}
    )


def tables(text):
    """The rows of every table as texts."""
    return [
        [
            [
                html.unescape(" ".join(re.sub(r"<[^>]*>", "", value).split()))
                for value in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.S)
            ]
            for row in re.findall(r"<tr>.*?</tr>", table, re.S)
        ]
        for table in re.findall(r"<table>.*?</table>", text, re.S)
    ]


def headings(text):
    return re.findall(r"<h2[^>]*>(.*?)</h2>", text)


def photo_panels(height=24):
    photo = np.ascontiguousarray(photograph("astronaut.png")[100 : 100 + height, 200:240, ::-1])
    return tuple(
        Panel(label, np.clip(photo.astype(int) + 9 * number, 0, 255).astype(np.uint8))
        for number, label in enumerate(("nearest", "bicubic 24.10 dB", "SRGAN 25.20 dB", "HR"))
    )


def curve(figure, label):
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == label]
    points = zip(line.get_xdata(), line.get_ydata(), strict=True)
    return [(float(x), float(y)) for x, y in points if not math.isnan(y)]


def test_tables_show_the_means_to_people():
    rgb, y, every = tables(page([run()]))
    assert rgb == [
        ["epoch", "nearest", "bicubic", "SRGAN", "HR"],
        ["10", "24.82", "26.13", "26.91", "∞"],
        ["20", "24.82", "26.13", "26.47", "∞"],
    ]
    assert [row[3] for row in y[1:]] == ["28.31", "28.39"]
    assert every[0][1:3] == ["PSNR RGB dB ↑higher is better", "PSNR Y dB ↑higher is better"]
    assert every[0][7] == "VGG54 ↓lower is better"
    rows = {row[0]: row[1:] for row in every[1:]}
    assert list(rows) == [
        "nearest",
        "bicubic",
        "HR",
        "SRResNet",
        "SRGAN, epoch 10",
        "SRGAN, epoch 20",
    ]
    assert rows["SRGAN, epoch 20"] == [
        "26.47",
        "28.39",
        "–",
        "0.8112",
        "–",
        "–",
        "0.0399",
        "–",
        "–",
    ]


def test_the_best_generator_is_bold_whichever_way_a_measure_points():
    best = re.findall(r'class="best">(.*?)<', page([run()]))
    assert best == ["26.91", "28.39", "26.91", "0.8124", "28.39", "0.0399"]
    alone = {key: values for key, values in TRAINED.items() if key != ("srgan", 10)}
    assert 'class="best"' not in page([run(means=alone)])


def test_what_was_not_measured_is_explained():
    assert "need the optional <code>perceptual</code> extra" in page([run()])
    whole = {key: {measure.key: 1.0 for measure in MEASURES} for key in TRAINED}
    assert "perceptual" not in page([run(means=whole)])


def test_several_runs_are_named_in_every_row():
    other = BASELINES | {("srgan", 3): {"psnr_rgb": 20.0, "psnr_y": 21.5, "ssim_y": 0.6}}
    text = page([run("first"), run("second", other, RECORDS)])
    rgb, y, every = tables(text)
    assert rgb[0] == ["run", "epoch", "nearest", "bicubic", "SRGAN", "HR"]
    assert [row[:2] for row in rgb[1:]] == [["first", "10"], ["first", "20"], ["second", "3"]]
    assert [row[4] for row in y[1:]] == ["28.31", "28.39", "21.50"]
    assert [row for row in every if len(row) == 1] == [["first"], ["second"]]
    assert "Loss terms in training, second" in text
    assert "Loss terms in training, first" not in text


def test_baselines_alone_leave_out_what_would_be_empty():
    text = page([run("", BASELINES)])
    rgb, _, every = tables(text)
    assert rgb == [["nearest", "bicubic", "HR"], ["24.82", "26.13", "∞"]]
    assert [row[0] for row in every] == ["method", "nearest", "bicubic", "HR"]
    assert headings(text) == ["PSNR", "All measures", "Protocol"]
    assert not re.search(r"<script|<details|<svg|SRGAN, epoch", text)


def test_the_whole_page_is_in_order():
    examples = [Example("baby", "worst: -0.31 dB against bicubic (Y)", photo_panels())]
    config = "phases: {gan: {epochs: 2}}\n"
    text = page(
        [run(records=RECORDS, config=config)], examples=examples, generators={"epoch 20": "ab" * 32}
    )
    expected = ["PSNR by epoch", "Examples", "All measures", "Curves", "Protocol"]
    assert headings(text) == expected
    assert text.count("<svg") == 4
    names, values = (re.findall(f"<{tag}.*?>(.*?)</{tag}>", text) for tag in ("dt", "dd"))
    facts = dict(zip(names, values, strict=True))
    assert facts == {"images": "Set5, 5", "scale": "4", "kernel": "matlab", "epoch 20": "ab" * 32}
    assert config in html.unescape(text)


@pytest.mark.parametrize("grey", [False, True])
def test_pictures_are_the_panels_pixels(grey):
    channels = 1 if grey else 3
    panels = tuple(Panel(panel.label, panel.image[..., :channels]) for panel in photo_panels())
    text = page([run()], examples=[Example("baby", "", panels)])
    uris = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
    for uri, panel in zip(uris, panels, strict=True):
        np.testing.assert_array_equal(decode_image(base64.b64decode(uri)), panel.image)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)[: len(panels)]
    assert captions == [panel.label for panel in panels]


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        (["nearest", "bicubic", "HR"], ["bicubic", "HR"]),
        (["nearest", "bicubic", "SRGAN", "HR"], ["bicubic", "SRGAN"]),
        (["nearest", "bicubic", "SRResNet", "SRGAN a", "SRGAN b", "HR"], ["bicubic", "SRGAN b"]),
        (["bicubic", "HR"], ["bicubic", "HR"]),
    ],
)
def test_bicubic_is_shown_against_the_last_generator(labels, chosen):
    image = photo_panels()[0].image
    example = Example("baby", "", tuple(Panel(label, image) for label in labels))
    assert re.findall(r" selected>(.*?)<", page([run()], examples=[example])) == chosen


def test_names_are_never_markup():
    examples = [Example(HOSTILE, HOSTILE, tuple(Panel(HOSTILE, p.image) for p in photo_panels()))]
    records = [record | {"phase": HOSTILE} for record in RECORDS]
    runs = [run(HOSTILE, records=records, config=HOSTILE), run("_second\x00")]
    text = page(
        runs,
        name=HOSTILE,
        examples=examples,
        protocol={HOSTILE: HOSTILE},
        generators={HOSTILE: HOSTILE},
    )
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, dict(attrs)))

    Reader().feed(text)
    assert [tag for tag, _ in found].count("script") == 1
    assert not [attrs for _, attrs in found if any(name.startswith("on") for name in attrs)]
    assert len([tag for tag, _ in found if tag == "img"]) == 2 + 4
    assert html.escape(HOSTILE[:25]) in text


def test_nothing_is_asked_for_elsewhere():
    examples = [Example("baby", "", photo_panels())]
    text = page([run(records=RECORDS), run("b")], examples=examples)
    for reference in re.findall(r"""(?:src|href)=["']([^"']*)""", text):
        assert reference.startswith(("data:", "#"))
    assert not re.search(r"url\((?!#)|@import|<!DOCTYPE svg", text)
    assert "default-src 'none'; img-src data:;" in text


def test_ids_of_the_page_are_unique():
    examples = [Example("a", "", photo_panels()), Example("b", "", photo_panels())]
    text = page([run(records=RECORDS), run("b", records=RECORDS)], examples=examples)
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', text)) <= set(ids)


def test_the_same_arguments_make_the_same_bytes():
    arguments = {"runs": [run(records=RECORDS)], "examples": [Example("a", "", photo_panels())]}
    assert page(**arguments) == page(**arguments)


def test_scores_are_drawn_at_their_values():
    figure = score_figure([TableRun("demo", TRAINED)], MEASURE["psnr_y"])
    assert curve(figure, "SRGAN") == [(10, 28.312), (20, 28.393)]
    assert {y for _, y in curve(figure, "bicubic")} == {27.554}
    assert {y for _, y in curve(figure, "SRResNet")} == {28.881}
    other = BASELINES | {("srgan", 5): {"ssim_y": 0.7}}
    figure = score_figure([TableRun("a", TRAINED), TableRun("b", other)], MEASURE["ssim_y"])
    assert curve(figure, "SRGAN, a") == [(10, 0.81237), (20, 0.81119)]
    assert curve(figure, "SRGAN, b") == [(5, 0.7)]
    assert {y for _, y in curve(figure, "SRResNet, a")} == {0.82991}
    styles = [(line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines[:2]]
    assert styles[0][0] != styles[1][0]
    assert styles[0][1] != styles[1][1]
    assert score_figure([TableRun("", BASELINES)], MEASURE["psnr_y"]) is None


def test_records_are_drawn_over_the_run_and_its_phases():
    figure = loss_figure(RECORDS)
    (axes,) = figure.axes
    assert curve(figure, "mse") == [(1, 0.04), (2, 0.02)]
    assert curve(figure, "vgg54") == [(3, 0.5)]
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["pretrain", "gan"]
    borders = [line.get_xdata()[0] for line in axes.lines if line.get_label().startswith("_")]
    assert borders == [2.5]
    figure = discriminator_figure(RECORDS)
    assert curve(figure, "D(HR)") == [(3, 0.75)]
    assert curve(figure, "D(SR)") == [(3, 0.25)]
    assert discriminator_figure(RECORDS[:2]) is None
    assert loss_figure([]) is None


def test_every_point_that_is_alone_has_a_marker():
    values = [0.1] * 50 + [None, 0.2, math.nan, 0.1, math.inf, 0.3]
    records = [
        {"phase": "gan", "epoch": epoch, "mse": value} for epoch, value in enumerate(values, 1)
    ]
    figure = loss_figure(records)
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "mse"]
    assert {51, 53, 55} <= set(line.get_markevery())
    assert len(line.get_markevery()) < 30
    assert len(curve(figure, "mse")) == 53


def test_losses_that_are_not_all_positive_have_a_linear_axis():
    records = [{"phase": "gan", "epoch": 1, "mse": 0.1, "total_variation": 0.0}]
    assert loss_figure(records).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3, 1e12, math.nan, math.inf, -math.inf, None])
def test_no_value_breaks_a_picture(value):
    records = [*RECORDS, {"phase": "gan", "epoch": 2, "vgg54": value, "d_hr": value}]
    means = TRAINED | ({("srgan", 30): {"psnr_y": value}} if value is not None else {})
    means |= {("bicubic", None): {"psnr_y": math.nan}}
    for figure in (
        loss_figure(records),
        loss_figure(records[-1:]),
        discriminator_figure(records),
        score_figure([TableRun("", means)], MEASURE["psnr_y"]),
    ):
        if figure is not None:
            ET.fromstring(svg(figure, label="", prefix="p"))


def test_svg_is_whole_and_takes_the_pages_colours():
    runs = [TableRun(HOSTILE, TRAINED), TableRun("\x00\ud800" + "n" * 99, TRAINED)]
    text = svg(score_figure(runs, MEASURE["psnr_y"]), label='a "label" <b>', prefix="one")
    root = ET.fromstring(text)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'a "label" <b>'
    assert root.get("viewBox").startswith("0 0 360 ")
    assert root.get("width") is None
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "epoch" in texts
    assert f"SRGAN, {HOSTILE[:14]}…{HOSTILE[-14:]}" in texts
    assert "currentColor" in text
    assert not re.search("#000000|#ffffff|#010203|creativecommons|matplotlib.org|DejaVu", text)
