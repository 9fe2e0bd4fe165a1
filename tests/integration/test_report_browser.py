"""The report in a real browser. Playwright's sync API, Debian's Chromium."""

import math
import re

import numpy as np
import pytest

from data_pipeline.imresize import enlarge_nearest, imresize
from srgan.evaluation.comparison import Panel, detail_place, most_detailed_crop
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.report import Example, Facts, report_html
from srgan.evaluation.table import TableRun
from tests.conftest import PATIENCE, photograph
from tests.integration.conftest import CHROMIUM

PHONE, DESKTOP = (360, 800), (1280, 900)
LONG = "a-run-that-somebody-gave-a-name-that-is-much-too-long-for-a-phone"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; apt install chromium")


def example(name, left, top):
    hr = np.ascontiguousarray(photograph(name)[top : top + 128, left : left + 128, ::-1])
    lr = imresize(hr, 0.25)
    bicubic = imresize(lr, 4)
    images = {
        "nearest": enlarge_nearest(lr, 4),
        "bicubic": bicubic,
        f"{LONG} SRGAN 40": (bicubic // 2 + hr // 2).astype(np.uint8),
        "second SRGAN 40": (bicubic // 4 + hr // 4 * 3).astype(np.uint8),
        "HR": hr,
    }
    panels = tuple(Panel(title, image, 22.87, 23.5) for title, image in images.items())
    why = f"worst of {LONG} SRGAN 40: -0.31 dB PSNR (Y) against bicubic, whole image"
    place = detail_place(np.ascontiguousarray(photograph(name)[:, :, ::-1]))
    return Example(name, why, panels, f"{LONG} SRGAN 40", place)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    values = {measure.key: 20.123 for measure in MEASURES}
    means = {("nearest", None): values, ("bicubic", None): values}
    means |= {("srgan", epoch): values | {"psnr_y": 20.0 + epoch} for epoch in range(1, 41)}
    means |= {("hr", None): {"psnr_rgb": math.inf, "psnr_y": math.inf}}
    records = [
        {"phase": phase, "epoch": epoch, "mse": 0.1 / epoch, "d_hr": 0.8, "d_sr": 0.2}
        for phase in ("pretrain", "gan")
        for epoch in range(1, 6)
    ]
    config = "data: " + 40 * "wide " + "\n"
    settings = {"phases.gan.learning_rate.initial": 1e-4}
    page = report_html(
        Facts("Set5", 5, "2026-11-26T10:00:00Z"),
        [
            TableRun(LONG, means, records, config, settings, f"s3://{LONG}/{LONG}"),
            TableRun("second", means, records, config, {}, "s3://bucket/second", is_gan=False),
        ],
        [example("astronaut.png", 180, 40), example("coffee.png", 240, 120)],
        notes=[f"PSNR RGB: the means leave out 1 of 5 images: {LONG}"],
        protocol={"images": "Set5, 5", "images sha256": "0123456789abcdef" * 4},
        generators={f"{LONG} epoch 1": "0123456789abcdef" * 4},
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page)
    return path.as_uri()


@pytest.fixture
def open_report(browser, report):
    """Opens the report; what it complained of and asked for must be nothing at the end."""
    contexts, complaints, requests = [], [], []

    def opened(size=DESKTOP, scheme="light", **options):
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        context.set_default_timeout(1000 * PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {report}


def style(page, selector, name):
    script = "(element, name) => getComputedStyle(element).getPropertyValue(name)"
    return page.locator(selector).first.evaluate(script, name)


def shown(page, selector):
    """The pixels of an image that the browser has decoded, and its size on the page."""
    return page.locator(selector).first.evaluate(
        """async (image) => {
          await image.decode();
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
          return [image.getBoundingClientRect().width, [...data]];
        }"""
    )


def contrast(page, selector):
    """WCAG's ratio of an element's text to the first background behind it."""
    colours = page.locator(selector).first.evaluate(
        """(element) => {
          const text = getComputedStyle(element).color;
          let behind = "rgba(0, 0, 0, 0)";
          for (let at = element; at && behind === "rgba(0, 0, 0, 0)"; at = at.parentElement)
            behind = getComputedStyle(at).backgroundColor;
          return [text, behind];
        }"""
    )
    light = []
    for colour in colours:
        rgb = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(light) / min(light)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_fits_and_can_be_read(open_report, size, scheme):
    page = open_report(size, scheme)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner == size[0]
    for table in page.locator(".scroll:not(.measures)").all():
        assert table.evaluate("(part) => part.scrollWidth <= part.clientWidth")
        box = table.get_by_role("columnheader", name="SR", exact=True).bounding_box()
        assert 0 <= box["x"] < box["x"] + box["width"] <= size[0]
    for selector in (
        "h1",
        ".headline",
        ".verdict p",
        ".verdict .of",
        ".value",
        ".place figcaption",
        ".eyebrow",
        ".note",
        "td",
        "td.best",
        "thead th",
        "thead .unit",
        "dt",
    ):
        assert contrast(page, selector) >= 4.5, selector
    assert style(page, ".plot svg text", "fill") == style(page, "body", "color")
    smallest = page.evaluate(
        """Math.min(...[...document.querySelectorAll(".plot svg")].map(
          (plot) => 11 * plot.getBoundingClientRect().width / plot.viewBox.baseVal.width))"""
    )
    assert smallest > 9


def test_dark_is_dark(open_report):
    light, dark = (
        style(open_report(scheme=scheme), "body", "background-color")
        for scheme in ("light", "dark")
    )
    assert light == "rgb(247, 248, 249)"
    assert dark == "rgb(18, 21, 26)"


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_divider_follows_keys_and_pointer(open_report, size):
    page = open_report(size)
    assert style(page, ".upper", "clip-path") == "inset(0px 50% 0px 0px)"
    slider = page.get_by_label("Drag across the image").first
    slider.focus()
    slider.press("ArrowRight")
    assert style(page, ".upper", "clip-path") == "inset(0px 49.5% 0px 0px)"
    slider.press("Home")
    assert style(page, ".upper", "clip-path") == "inset(0px 100% 0px 0px)"
    assert slider.get_attribute("aria-valuetext").startswith(f"0 % bicubic, then {LONG}")
    box = slider.bounding_box()
    slider.click(position={"x": box["width"] * 0.75, "y": box["height"] / 3})
    (hidden,) = re.findall(r"inset\(0px ([\d.]+)% 0px 0px\)", style(page, ".upper", "clip-path"))
    assert float(hidden) == pytest.approx(25, abs=1)
    other = page.locator(".upper").nth(1).evaluate("(image) => getComputedStyle(image).clipPath")
    assert other == "inset(0px 50% 0px 0px)"


def test_any_two_methods_can_be_compared(open_report):
    page = open_report()
    methods = {panel.title: panel.image for panel in example("astronaut.png", 180, 40).panels}
    nearest, bicubic, srgan, _, hr = methods
    left, right = page.get_by_label("Left").first, page.get_by_label("Right").first

    def assert_shown(upper, lower):
        for selector, label in ((".upper", upper), (".lower", lower)):
            width, pixels = shown(page, selector)
            np.testing.assert_array_equal(
                np.array(pixels, np.uint8).reshape(128, 128, 4)[..., :3], methods[label]
            )
            assert width == 5 * 128

    assert_shown(bicubic, srgan)
    left.select_option(label=hr)
    assert_shown(hr, srgan)
    right.select_option(label=nearest)
    assert_shown(hr, nearest)
    assert page.locator(".tag").first.inner_text() == "HR"


@pytest.mark.parametrize(("size", "width"), [(PHONE, 256), (DESKTOP, 208)])
def test_all_panels_stand_side_by_side_and_enlarged(size, width, open_report):
    panels = open_report(size).locator(".panels").first.locator("img").all()
    boxes = [panel.bounding_box() for panel in panels]
    assert [box["width"] for box in boxes] == [width] * 5
    assert len({box["y"] for box in boxes}) == 1
    if size == DESKTOP:
        assert all(0 < box["x"] < DESKTOP[0] - width for box in boxes)


def test_without_scripts_all_but_the_slider_is_there(open_report):
    page = open_report(java_script_enabled=False)
    assert page.locator(".stage:visible, .controls:visible").count() == 0
    assert page.locator(".place img:visible").count() == 2
    assert page.locator(".panels img:visible").count() == 10
    assert page.get_by_role("table").count() == 3


def test_the_frame_is_where_the_crop_is(open_report):
    """The astronaut is 512x512 pixels, so the crop is a quarter as wide and as high."""
    page = open_report()
    photo = page.locator(".map img").first.bounding_box()
    frame = page.locator(".frame").first.bounding_box()
    hr = np.ascontiguousarray(photograph("astronaut.png")[:, :, ::-1])
    top, left = most_detailed_crop(hr, 128)
    assert frame["width"] == pytest.approx(photo["width"] / 4, abs=1)
    assert frame["height"] == pytest.approx(photo["height"] / 4, abs=1)
    assert frame["x"] - photo["x"] == pytest.approx(left / 512 * photo["width"], abs=1)
    assert frame["y"] - photo["y"] == pytest.approx(top / 512 * photo["height"], abs=1)
