"""A whole study as raters take it, in Debian's Chromium. Playwright's sync API."""

import json
from collections import Counter

import numpy as np
import pytest

from data_pipeline.images import decode_image
from srgan.study.files import read_key, read_ratings, stimulus_key, study_id
from tests.conftest import PATIENCE
from tests.integration.conftest import CHROMIUM
from tests.srgan.study.made import SETTINGS, made_study
from tests.srgan.study.serving import serving

PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 3, "has_touch": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium; apt install chromium"),
]


@pytest.fixture
def open_page(browser):
    """Opens a link. At the end, the page must have asked for nothing elsewhere, and complained of
    nothing but what the test expects.
    """
    contexts, complaints, requests, links = [], [], [], []

    def opened(link, **options):
        context = browser.new_context(**options)
        context.set_default_timeout(1000 * PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        links.append(link.partition("#")[0])
        page.goto(link)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    own = (*links, "data:", *(f"blob:{link}" for link in links))
    assert [url for url in requests if not url.startswith(own)] == []


def begin(page, *, is_pairs=False):
    """From the first card to the first picture."""
    press(page, "Start")
    for name, value in {"screen": "laptop", "light": "dim", "steps": "all"}.items():
        page.locator(f"input[name={name}][value={value}]").check()
    press(page, "Continue")
    press(page, "Show the examples")


def press(page, text):
    page.get_by_role("button", name=text, exact=True).click()


def rate(page, trial, value, *, by):
    """Answers the trial once it is shown; then the next one, or a card, follows."""
    count = page.locator("#count")
    turn = page.get_by_role("button", name="Continue", exact=True)
    button = page.locator("#answers button").nth(value)
    page.wait_for_function(
        """() => document.querySelector("#answers button:enabled")
            || document.querySelector(".card .main")"""
    )
    if turn.is_visible():
        turn.click()
    page.wait_for_function("() => document.querySelector('#answers button:enabled')")
    assert count.inner_text().startswith(f"{trial} of ")
    by(button, value)
    page.wait_for_function(
        f"() => document.querySelector('#count').textContent.startsWith('{trial + 1} of ')"
    )


def answers_of(key, plan):
    """What a rater who looks gives; else any."""
    rng = np.random.default_rng(plan)
    return [
        int(trial.expected[0]) if trial.expected else int(rng.integers(1, 6))
        for trial in key.plans[plan]
    ]


@pytest.mark.parametrize(("device", "scheme"), [("phone", "light"), ("desktop", "dark")])
def test_a_whole_study(open_page, tmp_path, device, scheme):
    """With a reload and a lost connection; what was pressed is what is stored."""
    study = made_study(tmp_path)
    key = read_key(study)
    pressed = answers_of(key, 0)
    with serving(study) as server:
        page = open_page(
            server.link, color_scheme=scheme, **(PHONE if device == "phone" else DESKTOP)
        )

        def by(button, value):
            if device == "phone":
                button.tap()
            else:
                page.keyboard.press(str(value + 1))

        begin(page)
        for trial, answer in enumerate(pressed):
            if trial == 9:
                page.reload()
                press(page, "Continue")
            if trial == 14:
                page.context.set_offline(True)
            rate(page, trial, answer - 1, by=by)
            if trial == 16:
                page.get_by_text("3 answers wait for the connection", exact=True).wait_for()
                assert len(read_ratings(study, [])) == 14
                page.context.set_offline(False)
        page.get_by_text("All your answers have arrived.").wait_for()
        stored = read_ratings(study, [])
        with page.expect_download() as download:
            press(page, "Save my answers")
        saved = tmp_path / "saved.json"
        download.value.save_as(saved)
        assert [one.answer for one in stored] == pressed
        assert [one.trial for one in stored] == list(range(len(pressed)))
        assert {one.plan for one in stored} == {0}
        assert all(0 < one.milliseconds < 1000 * PATIENCE for one in stored)
        assert read_ratings(study, [saved]) == stored
        page.reload()
        page.get_by_text("All your answers have arrived.").wait_for()
        cookies = page.context.cookies()
        assert [(one["name"], one["httpOnly"], one["sameSite"]) for one in cookies] == [
            (f"rater-{study_id(study)}", True, "Strict")
        ]


def test_pairs_by_the_arrow_keys(open_page, tmp_path):
    study = made_study(tmp_path, SETTINGS._replace(mode="pairs"))
    key = read_key(study)
    pressed = [
        int(trial.expected[0]) if trial.expected else trial.number % 2 for trial in key.plans[0]
    ]
    with serving(study) as server:
        page = open_page(server.link, **DESKTOP)
        begin(page)
        for trial, answer in enumerate(pressed):
            arrow = ("ArrowLeft", "ArrowRight")[answer]
            rate(page, trial, answer, by=lambda _, __, arrow=arrow: page.keyboard.press(arrow))
        page.get_by_text("All your answers have arrived.").wait_for()
        assert [one.answer for one in read_ratings(study, [])] == pressed


def test_a_page_without_a_server(open_page, tmp_path):
    """Opened as a file, closed in the middle, and its own file of ratings is read."""
    study = made_study(tmp_path, SETTINGS._replace(pages=2))
    key = read_key(study)
    pressed = answers_of(key, 1)
    page = open_page((study / "pages/plan-01.html").as_uri(), **DESKTOP)
    begin(page)
    for trial, answer in enumerate(pressed):
        if trial == 20:
            page.reload()
            press(page, "Continue")
        rate(page, trial, answer - 1, by=lambda _, value: page.keyboard.press(str(value + 1)))
    with page.expect_download() as download:
        press(page, "Save my answers")
    saved = tmp_path / "saved.json"
    download.value.save_as(saved)
    found = read_ratings(study, [saved])
    assert [one.answer for one in found] == pressed
    assert {one.plan for one in found} == {1}
    assert json.loads(saved.read_text())["display"]["screen"] == "laptop"


@pytest.mark.parametrize("ratio", [1.25, 2.625, 3])
@pytest.mark.parametrize("mode", ["acr", "pairs"])
def test_pixels_are_shown_one_to_one(open_page, tmp_path, mode, ratio):
    """The screen's pixels are the file's, and around them is nothing but one grey."""
    study = made_study(tmp_path, SETTINGS._replace(mode=mode))
    key = read_key(study)
    with serving(study) as server:
        page = open_page(
            server.link, viewport={"width": 801, "height": 701}, device_scale_factor=ratio
        )
        begin(page)
        page.wait_for_function("() => document.querySelector('#answers button:enabled')")
        shot = decode_image(page.screenshot())
        colours = Counter()
        for number, name in enumerate(key.plans[0][0].stimuli):
            box = page.locator("#stage img").nth(number).bounding_box()
            left, top = round(box["x"] * ratio), round(box["y"] * ratio)
            assert box["x"] * ratio == pytest.approx(left, abs=0.05)
            found = shot[top : top + 64, left : left + 64]
            np.testing.assert_array_equal(
                found, decode_image((study / stimulus_key(name)).read_bytes())
            )
            around = shot[top - 4 : top + 68, left - 4 : left + 68].copy()
            around[4:-4, 4:-4] = 119
            colours.update(map(tuple, around.reshape(-1, 3).tolist()))
        assert set(colours) == {(119, 119, 119)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_and_used_without_a_pointer(open_page, tmp_path, scheme):
    study = made_study(tmp_path)
    with serving(study) as server:
        page = open_page(server.link, color_scheme=scheme, **PHONE)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(119, 119, 119)"
        )
        page.get_by_role("heading", name="How good do these pictures look?").wait_for()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.get_by_role("group", name="Your screen").wait_for()
        wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= inner == 360
        press(page, "Continue")
        page.get_by_text("Please answer all three.").wait_for()
        for name in ("Phone", "Dim, or lamps", "All of them"):
            page.get_by_label(name, exact=True).check()
        press(page, "Continue")
        press(page, "Show the examples")
        page.get_by_role("img", name="Picture of question 1 of 32").wait_for()
        page.get_by_role("progressbar", name="Progress").wait_for()
        names = [one.inner_text().split() for one in page.locator("#answers button").all()]
        assert names == [
            [str(n), word] for n, word in enumerate(["Bad", "Poor", "Fair", "Good", "Excellent"], 1)
        ]
        page.wait_for_function("() => document.activeElement.id === 'answers'")
        wanted = page.locator("#answers .wanted").inner_text().split()[0]
        for _ in range(int(wanted)):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.get_by_role("img", name="Picture of question 2 of 32").wait_for()
        page.wait_for_function("() => document.activeElement.id === 'answers'")
        boxes = [one.bounding_box() for one in page.locator("#answers button").all()]
        assert all(box["height"] >= 48 and box["width"] >= 48 for box in boxes)
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in boxes)


def test_a_window_that_is_too_small_is_said(open_page, tmp_path):
    study = made_study(tmp_path)
    with serving(study) as server:
        page = open_page(server.link, **DESKTOP)
        begin(page)
        page.wait_for_function("() => document.querySelector('#answers button:enabled')")
        page.set_viewport_size({"width": 400, "height": 230})
        page.get_by_text("There is not enough room for the picture").wait_for()
        page.keyboard.press("1")
        assert page.locator("#answers button:enabled").count() == 0
        page.set_viewport_size({"width": 400, "height": 600})
        page.wait_for_function("() => document.querySelector('#answers button:enabled')")
        assert page.locator("#count").inner_text() == "0 of 32"
