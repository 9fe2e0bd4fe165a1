"""What a rater's browser gets must not tell methods or roles."""

import base64
import hashlib
import json
import re
import struct
import zlib

import numpy as np
import pytest

from data_pipeline.images import decode_image
from srgan.study.files import read_key
from srgan.study.pictures import stored_png, trap_picture
from srgan.study.rater_view import PAGE
from tests.srgan.study.made import SETTINGS, made_study
from tests.srgan.study.serving import Client, in_thread

WORDS = re.compile(
    r"nearest|bicubic|srresnet|srgan|generator|\bhr\b|gold|trap|repeat|scored|role|method|epoch"
)


@pytest.fixture(scope="module", params=["acr", "pairs"])
def study(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return made_study(folder, SETTINGS._replace(mode=request.param, pages=1))


@pytest.fixture(scope="module")
def port(study):
    with in_thread(study) as port:
        yield port


@pytest.fixture
def browser(port):
    client = Client(port)
    client.facts = client.join()
    return client


def chunks(png):
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def test_files_differ_in_nothing_but_pixels(study):
    key = read_key(study)
    files = {name: (study / f"stimuli/{name}.png").read_bytes() for name in key.stimuli}
    assert len({len(data) for data in files.values()}) == 1
    for data in files.values():
        (head, header), (body, rows), (end, nothing) = chunks(data)
        assert (head, body, end, nothing) == (b"IHDR", b"IDAT", b"IEND", b"")
        assert header == struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
        pixels = np.frombuffer(zlib.decompress(rows), np.uint8).reshape(64, 1 + 3 * 64)
        assert not pixels[:, 0].any()
        np.testing.assert_array_equal(pixels[:, 1:].reshape(64, 64, 3), decode_image(data))
        assert stored_png(decode_image(data)) == data
    assert set(files) == {path.stem for path in (study / "stimuli").iterdir()}


def test_noise_and_flat_pictures_are_equally_long():
    noise = np.random.default_rng(0).integers(0, 256, (321, 300, 3), np.uint8)
    assert len({len(stored_png(one)) for one in (noise, noise * 0, noise[:, :, :1])}) == 1


def test_answers_tell_nothing(study, browser):
    key = read_key(study)
    facts = browser.get("/api/study").json()
    assert set(facts) == {
        *("study", "mode", "side", "plan", "trials"),
        *("rater", "hasDisplay", "answered"),
    }
    for trial, shown in zip(key.plans[facts["plan"]], facts["trials"], strict=True):
        assert set(shown) == {"session"} | ({"example"} if trial.role == "training" else set())
    assert not WORDS.search(json.dumps(facts).lower())
    assert not any(name in json.dumps(facts) for name in key.stimuli)


def test_pictures_headers_and_names_are_alike(study, browser):
    """A picture's address is its trial's number; one that comes again has no name to know it by."""
    plan = read_key(study).plans[browser.facts["plan"]]
    heads, sizes = set(), set()
    for trial in plan:
        for place in range(len(trial.stimuli)):
            answer = browser.get(f"/api/picture/{trial.number}/{place}")
            heads.add(tuple(sorted(answer.headers.items())))
            sizes.add(len(answer.content))
            name = trial.stimuli[place]
            assert answer.content == (study / f"stimuli/{name}.png").read_bytes()
    assert len(heads) == len(sizes) == 1
    assert not {"etag", "last-modified", "content-disposition"} & set(dict(*heads))


def test_a_right_answer_is_acknowledged_as_a_wrong_one(study, browser):
    """One rater gives the lowest answer always, another the highest: both pass and fail checks."""
    key = read_key(study)
    other = Client(browser.port)
    other.facts = other.join()
    told = set()
    for rater, answer in ((browser, 0), (other, 1)):
        value = answer if key.mode == "pairs" else 1 + 4 * answer
        for trial in key.plans[rater.facts["plan"]]:
            body = {"trial": trial.number, "answer": value, "milliseconds": 5}
            reply = rater.post("/api/rate", body)
            told.add((reply.status, reply.content, tuple(sorted(reply.headers.items()))))
    assert len(told) == 1
    assert next(iter(told))[0] == 200


def test_the_page_names_nothing(study):
    for path in PAGE.iterdir():
        text = re.sub(r"\brole: |\brole=", "", path.read_text())  # of HTML's elements
        text = re.sub(r"{ method: \"POST\"|repeat\(auto|event\.repeat", "", text)
        assert not WORDS.search(text.lower()), path.name


def test_a_page_without_a_server_tells_nothing(study):
    key = read_key(study)
    page = (study / "pages/plan-00.html").read_text()
    assert not any(name in page for name in key.stimuli)
    (data,) = re.findall(r'id="study">(.*?)</script>', page)
    facts = json.loads(data)
    pictures = facts.pop("pictures")
    assert not WORDS.search(json.dumps(facts).lower())
    assert len({len(one) for trial in pictures for one in trial}) == 1
    for trial, shown in zip(key.plans[0], pictures, strict=True):
        for name, address in zip(trial.stimuli, shown, strict=True):
            png = base64.b64decode(address.removeprefix("data:image/png;base64,"))
            assert png == (study / f"stimuli/{name}.png").read_bytes()
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "http" not in page.replace("http-equiv", "")


def test_traps_can_be_read():
    small, large = trap_picture("NOT THIS", 64), trap_picture("PRESS 2", 320)
    for image in (small, large):
        ink = np.argwhere((image != 119).any(axis=2))
        assert ink.min() > 0
        assert ink.max() < len(image) - 1
        assert np.ptp(ink[:, 1]) > 0.7 * len(image)
        assert image.max() > 240
