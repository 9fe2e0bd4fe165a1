import base64
import html
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from data_pipeline.images import decode_image
from srgan.evaluation.comparison import Panel, Place
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.plots import discriminator_figure, loss_figure, score_figure, svg
from srgan.evaluation.report import Example, Facts, report_html
from srgan.evaluation.table import TableRun, psnr_csv, psnr_markdown
from srgan.evaluation.verdict import verdict
from tests.conftest import photograph

HOSTILE = """<script>alert(1)</script>"'></text></svg><img src=x onerror=alert(2)>$\\frac{$"""
MEASURE = {measure.key: measure for measure in MEASURES}
BASELINES = {
    ("nearest", None): {"psnr_rgb": 24.816, "psnr_y": 26.203, "ssim_y": 0.74281},
    ("bicubic", None): {"psnr_rgb": 26.127, "psnr_y": 27.554, "ssim_y": 0.80214, "vgg54": 0.0612},
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
MSE_MEANS = {key: values for key, values in TRAINED.items() if key[0] != "srresnet"}
PROTOCOL = {"images": "Set5, 5", "scale": 4, "kernel": "matlab"}


def run(name="demo", means=TRAINED, records=(), config="", **options):
    return TableRun(name, means, records, config, **options)


def page(
    runs,
    *,
    name="Set5",
    scored="2026-11-26T10:00:00Z",
    examples=(),
    notes=(),
    protocol=PROTOCOL,
    generators=None,
):
    facts = Facts(name, 5, scored)
    return report_html(
        facts, runs, examples, notes=notes, protocol=protocol, generators=generators or {}
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
    assert every[0][4] == "VGG54 ↓lower is better"
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
        "0.8112",
        "0.0399",
    ]


def test_the_best_generator_is_bold_whichever_way_a_measure_points():
    text = page([run()])
    best = re.findall(r'class="best">(.*?)<', text)
    assert sorted(best) == ["0.0399", "0.8124", "26.91", "26.91", "28.39", "28.39"]
    assert text.count("Bold: the best epoch of a measure, where it is better than bicubic.") == 2
    assert "No epoch" not in text
    alone = {key: values for key, values in TRAINED.items() if key != ("srgan", 10)}
    assert 'class="best"' not in page([run(means=alone)])


def test_bicubic_has_no_grid_and_nothing_can_be_better():
    grids = {("bicubic", None): 1.003, ("hr", None): 1, ("srgan", 10): 1.2, ("srgan", 20): 1.1}
    means = {key: values | {"grid": grids.get(key, 1)} for key, values in TRAINED.items()}
    text = page([run(means=means)])
    assert "1.20" in text
    assert "No epoch is better" not in text


def test_no_generator_below_bicubic_is_called_the_best():
    high = {"psnr_rgb": 30.0, "psnr_y": 31.0, "ssim_y": 0.8, "vgg54": 0.01}
    text = page([run(means=TRAINED | {("bicubic", None): high})])
    assert set(re.findall(r'class="best">(.*?)<', text)) == {"0.8124"}
    assert text.count("No epoch is better than bicubic in PSNR RGB, PSNR Y, VGG54.") == 2
    text = page([run(means=TRAINED | {("bicubic", None): {"psnr_y": 27.0}})])
    assert set(re.findall(r'class="best">(.*?)<', text)) == {"28.39"}


@pytest.mark.parametrize(
    ("values", "headline", "details"),
    [
        (
            {"psnr_y": 28.004, "ssim_y": 0.7990, "lpips": 0.2101, "grid": 1.1},
            "Epoch 20 beats bicubic by 0.45 dB PSNR (Y): 28.00 against 27.55 dB.",
            "SSIM (Y) is worse: 0.7990 against bicubic's 0.8021. "
            "LPIPS is better: 0.2101 against bicubic's 0.3440; lower is better. "
            "By LPIPS its images look more like HR than bicubic's.",
        ),
        (
            {"psnr_y": 27.2, "ssim_y": 0.80214, "vgg54": 0.05},
            "Epoch 20 is 0.35 dB PSNR (Y) below bicubic: 27.20 against 27.55 dB.",
            "SSIM (Y) is equal: 0.8021 against bicubic's 0.8021. "
            "VGG54 is better: 0.0500 against bicubic's 0.0612; lower is better. "
            "A GAN gives up PSNR for texture, so a PSNR near bicubic's is normal. "
            "By VGG54 its images look more like HR than bicubic's.",
        ),
        (
            {"psnr_y": 26.5, "lpips": 0.344, "grid": 1.649},
            "Epoch 20 is 1.05 dB PSNR (Y) below bicubic: 26.50 against 27.55 dB.",
            "LPIPS is equal: 0.3440 against bicubic's 0.3440; lower is better. "
            "That is more than the 1 dB that GANs usually give up for texture. "
            "By LPIPS its images do not look more like HR than bicubic's. "
            "Grid is 1.65, above 1.1: look for a pattern of dots or lines.",
        ),
        (
            {"psnr_y": 27.5501},
            "Epoch 20 equals bicubic in PSNR (Y): 27.55 against 27.55 dB.",
            "No perceptual measure could be taken, so no number here says whether it looks better: "
            "look at the pictures.",
        ),
        (
            {"ssim_y": 0.9, "vgg54": 0.01},
            "Epoch 20 is not compared with bicubic in PSNR (Y): a mean is absent.",
            "SSIM (Y) is better: 0.9000 against bicubic's 0.8021. "
            "VGG54 is better: 0.0100 against bicubic's 0.0612; lower is better. "
            "By VGG54 its images look more like HR than bicubic's.",
        ),
    ],
)
def test_the_verdict_says_what_the_values_say(values, headline, details):
    bicubic = BASELINES["bicubic", None] | {"psnr_y": 27.55, "lpips": 0.344}
    means = TRAINED | {("bicubic", None): bicubic, ("srgan", 20): values}
    found = verdict(run(means=means))
    assert (found.headline, " ".join(found.details)) == (headline, details)
    text = html.unescape(page([run(means=means)]))
    assert text.index(headline) < text.index(details) < text.index("<table")


@pytest.mark.parametrize(
    ("means", "is_gan", "expected"),
    [
        (
            BASELINES,
            True,
            "Only the baselines are scored: bicubic has 27.55 dB PSNR (Y), nearest 26",
        ),
        (
            BASELINES | {("srresnet", None): {"psnr_y": 28.881}},
            True,
            "SRResNet beats bicubic by 1.33 dB PSNR (Y): 28.88 against 27.55 dB.",
        ),
        (
            BASELINES | {("srgan", 3): {"psnr_y": 27.0}},
            False,
            "Epoch 3 is 0.55 dB PSNR (Y) below bicubic: 27.00 against 27.55 dB. A network that is "
            "trained without an adversarial loss usually beats bicubic: perhaps it has trained",
        ),
    ],
)
def test_the_verdict_of_what_is_no_gan(means, is_gan, expected):
    assert str(verdict(run(means=means, is_gan=is_gan))).startswith(expected)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({"pretrain.losses.l1": 1.0}, "no network"),
        ({"gan.losses.adversarial": 0.1, "gan.losses.lpips": 0.0}, "its discriminator"),
        (
            {"a.losses.vgg22": 1.0, "b.losses.vgg54": 1.0, "b.losses.lpips": 1.0},
            "VGG16 (LPIPS) and VGG19",
        ),
    ],
)
def test_the_verdict_names_the_networks_of_losses_and_measures(losses, expected):
    means = BASELINES | {("srgan", 3): {"psnr_y": 29.0, "lpips": 0.2}}
    settings = {f"phases.{key}": weight for key, weight in losses.items()}
    sentence = f"Trained with {expected}; LPIPS measures with AlexNet."
    assert str(verdict(run(means=means, settings=settings))).endswith(sentence)
    del means["srgan", 3]["lpips"]
    assert "AlexNet" not in str(verdict(run(means=means, settings=settings)))


def test_a_run_without_a_gan_is_called_srresnet():
    mse = run(means=MSE_MEANS, is_gan=False)
    text = page([mse])
    rgb, _, every = tables(text)
    assert rgb[0] == ["epoch", "nearest", "bicubic", "SRResNet", "HR"]
    assert [row[0] for row in every[-2:]] == ["SRResNet, epoch 10", "SRResNet, epoch 20"]
    assert not re.search(r"\bSRGAN(?! evaluation)", text)
    both = [run("gan"), mse._replace(name="mse")]
    assert tables(page(both))[0][0] == ["epoch", "nearest", "bicubic", "SR", "HR"]
    markdown = psnr_markdown([mse], ["verdict"], [], {}, {})
    assert markdown.startswith(
        "verdict\n\nPSNR RGB in dB:\n\n| epoch | nearest | bicubic | SRResNet |"
    )
    assert "| SRResNet | 20 |" in markdown
    assert "| SR | HR |" in psnr_markdown(both, [], [], {}, {})
    assert psnr_csv(mse.means).startswith("epoch,nearest,bicubic,srgan,hr\n")


def test_the_head_says_what_was_scored():
    text = page([run(uri="s3://bucket/demo")])
    head = dict(re.findall(r"<dt>(.*?)</dt>\n<dd>(.*?)</dd>", text[: text.index("</header>")]))
    date = '<time datetime="2026-11-26">2026-11-26</time>'
    assert head == {"Run": "s3://bucket/demo", "Data set": "Set5, 5 images", "Scored on": date}
    assert "Scored on" not in page([run()], scored="")  # by scores of an older version
    text = page([run("a", uri="s3://x/a"), run("b", uri="s3://x/b")])
    assert re.findall(r"<dt>(Run.*?)</dt>\n<dd>(.*?)</dd>", text) == [
        ("Run a", "s3://x/a"),
        ("Run b", "s3://x/b"),
    ]
    assert re.findall(r'class="of">(.*?)<', text) == ["a", "b"]


def test_compared_runs_list_the_settings_that_differ():
    settings = {"seed": 1, "generator.filters": 64, "phases.gan.epochs": 100}
    runs = [
        run("a", settings=settings),
        run("b", settings=settings | {"generator.filters": 32, "ema": 0.9, "x": 0}),
    ]
    text = page(runs)
    part = text[text.index("Settings that differ") : text.index('id="protocol"')]
    assert re.findall(r'<dt class="hash">(.*?)</dt>', part) == ["ema", "generator.filters"]
    assert re.findall(r"<div>(\w+): <b>(.*?)</b>", part) == [
        ("a", "–"),
        ("b", "0.9"),
        ("a", "64"),
        ("b", "32"),
    ]
    assert "The runs have the same configuration." in page([runs[0], runs[0]])
    assert "Settings that differ" not in page(runs[:1])


def test_values_of_the_crop_and_of_the_image_are_told_apart():
    image = photo_panels()[0].image
    panels = [Panel("bicubic", image, 20.114, 23.456), Panel("HR", image, None, None)]
    place = Place(image, 0.25, 0.5, 0.125, 0.4)
    text = page([run()], examples=[Example("baby", "", tuple(panels), "", place)])
    bicubic, hr = re.findall(r"<figcaption><b>(.*?)</figcaption>", text, re.S)
    assert re.findall(r">([^<]+)<", bicubic.replace("\n", "")) == [
        "crop 20.11 dB",
        "image 23.46 dB",
    ]
    assert "dB" not in hr
    assert 'style="left: 25.00%; top: 50.00%; width: 12.50%; height: 40.00%; "' in text
    assert "the frame is the crop" in text
    assert "the frame is the crop" not in page([run()], examples=[Example("a", "", tuple(panels))])


def test_what_was_not_measured_is_named_and_explained():
    lacking = "SSIM RGB, LPIPS, LR PSNR, Grid, VGG22, NIQE, Parameters, GFLOPs"
    text = page([run()])
    assert f"Not measured: {lacking}. NIQE needs the optional <code>perceptual</code> extra" in text
    assert f"\n\nNot measured: {lacking}  \n" in psnr_markdown([run()], [], [], {}, {})
    whole = {key: {measure.key: 1.0 for measure in MEASURES} for key in TRAINED}
    assert "perceptual" not in page([run(means=whole)])


def test_several_runs_are_named_above_their_rows():
    other = BASELINES | {("srgan", 3): {"psnr_rgb": 20.0, "psnr_y": 21.5, "ssim_y": 0.6}}
    text = page([run("first"), run("second", other, RECORDS)])
    rgb, y, every = tables(text)
    assert rgb[0] == ["epoch", "nearest", "bicubic", "SRGAN", "HR"]
    assert [row[0] for row in rgb[1:]] == ["first", "10", "20", "second", "3"]
    assert [row[3] for row in y[1:] if len(row) > 1] == ["28.31", "28.39", "21.50"]
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
    assert {name: facts[name] for name in ("images", "scale", "kernel", "epoch 20")} == {
        "images": "Set5, 5",
        "scale": "4",
        "kernel": "matlab",
        "epoch 20": "ab" * 32,
    }
    assert config in html.unescape(text)


@pytest.mark.parametrize("grey", [False, True])
def test_pictures_are_the_panels_pixels(grey):
    channels = 1 if grey else 3
    panels = tuple(Panel(panel.title, panel.image[..., :channels]) for panel in photo_panels())
    text = page([run()], examples=[Example("baby", "", panels)])
    uris = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
    for uri, panel in zip(uris, panels, strict=True):
        np.testing.assert_array_equal(decode_image(base64.b64decode(uri)), panel.image)
    assert re.findall(r"<figcaption><b>(.*?)</b>", text) == [panel.title for panel in panels]


@pytest.mark.parametrize(
    ("titles", "chosen"),
    [
        (["nearest", "bicubic", "HR"], ["bicubic", "HR"]),
        (["nearest", "bicubic", "SRGAN judged", "SRGAN b", "HR"], ["bicubic", "SRGAN judged"]),
        (["nearest", "bicubic", "SRGAN", "HR"], ["bicubic", "SRGAN"]),
        (["nearest", "bicubic", "SRResNet", "SRGAN a", "SRGAN b", "HR"], ["bicubic", "SRGAN b"]),
        (["bicubic", "HR"], ["bicubic", "HR"]),
    ],
)
def test_bicubic_is_shown_against_the_generator_that_is_judged_or_the_last(titles, chosen):
    image = photo_panels()[0].image
    panels = tuple(Panel(title, image) for title in titles)
    example = Example("baby", "", panels, "SRGAN judged")
    assert re.findall(r" selected>(.*?)<", page([run()], examples=[example])) == chosen


def test_names_are_never_markup():
    examples = [Example(HOSTILE, HOSTILE, tuple(Panel(HOSTILE, p.image) for p in photo_panels()))]
    records = [record | {"phase": HOSTILE} for record in RECORDS]
    runs = [
        run(HOSTILE, records=records, config=HOSTILE, uri=HOSTILE, settings={HOSTILE: HOSTILE}),
        run("_second\x00"),
    ]
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
    colours = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
    assert len(set(colours.values())) == 3
    mse = score_figure([run(is_gan=False, means=MSE_MEANS)], MEASURE["psnr_y"])
    (own,) = [line for line in mse.axes[0].lines if line.get_label() == "SRResNet"]
    assert own.get_color() == colours["SRResNet"]  # in every report the same
    assert {y for _, y in curve(figure, "bicubic")} == {27.554}
    assert {y for _, y in curve(figure, "SRResNet")} == {28.881}
    other = BASELINES | {("srgan", 5): {"ssim_y": 0.7}}
    figure = score_figure([TableRun("a", TRAINED), TableRun("b", other)], MEASURE["ssim_y"])
    assert len({line.get_color() for line in figure.axes[0].lines}) == len(figure.axes[0].lines)
    assert curve(figure, "SRGAN, a") == [(10, 0.81237), (20, 0.81119)]
    assert curve(figure, "SRGAN, b") == [(5, 0.7)]
    assert {y for _, y in curve(figure, "SRResNet, a")} == {0.82991}
    styles = [(line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines[:2]]
    assert styles[0][0] != styles[1][0]
    assert styles[0][1] != styles[1][1]
    assert score_figure([TableRun("", BASELINES)], MEASURE["psnr_y"]) is None


@pytest.mark.parametrize("runs", [3, 4, 9])
def test_no_two_lines_look_the_same(runs):
    """A curve and a level for each run, and bicubic: lines that share a colour differ in dashes."""
    figure = score_figure([run(str(number)) for number in range(runs)], MEASURE["psnr_y"])
    lines = figure.axes[0].lines
    looks = {(line.get_color(), str(line._dash_pattern)) for line in lines}
    assert len(looks) == len(lines) == 2 * runs + 1
    assert len({line.get_color() for line in lines}) == min(len(lines), 7 + 1)


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
