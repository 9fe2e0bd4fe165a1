"""What the server refuses."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_pipeline.platform.errors import UserError
from srgan.study.files import read_key, read_ratings, study_id
from srgan.study.limits import RequestLimit
from srgan.study.records import Rating
from srgan.study.server import StudyServer, serve
from tests.srgan.study.made import SETTINGS, made_study
from tests.srgan.study.serving import Client, in_thread

RATING = {"trial": 0, "answer": 3, "milliseconds": 700}
DISPLAY = {
    "screen": "phone", "light": "dim", "steps": "all", "ratio": 2.625, "width": 360, "height": 740
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return made_study(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def port(study):
    with in_thread(study) as port:
        yield port


@pytest.fixture
def anonymous(port):
    return Client(port)


@pytest.fixture
def rater(anonymous):
    anonymous.facts = anonymous.join()
    return anonymous


def stored(study, client):
    return [one for one in read_ratings(study, []) if one.rater == client.facts["rater"]]


def test_a_rating_is_stored(study, rater):
    assert rater.post("/api/rate", RATING).status == 200
    expected = Rating(rater.facts["rater"], rater.facts["plan"], 0, 3, 700)
    assert stored(study, rater) == [expected]
    assert rater.get("/api/study").json()["answered"] == [0]


def test_replays_change_nothing(study, rater):
    assert rater.post("/api/rate", RATING).status == 200
    assert rater.post("/api/rate", RATING | {"milliseconds": 1}).status == 200
    assert rater.post("/api/rate", RATING | {"answer": 5}).status == 409
    assert [one[3:5] for one in stored(study, rater)] == [(3, 700)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 4000, 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"trial": 0, "answer": NaN, "milliseconds": 1}', 400),
        (json.dumps(RATING | {"answer": 6}).encode(), 400),
        (json.dumps(RATING | {"answer": 0}).encode(), 400),
        (json.dumps(RATING | {"answer": True}).encode(), 400),
        (json.dumps(RATING | {"answer": 3.0}).encode(), 400),
        (json.dumps(RATING | {"trial": -1}).encode(), 400),
        (json.dumps(RATING | {"trial": 32}).encode(), 400),
        (json.dumps(RATING | {"trial": 10**30}).encode(), 400),
        (json.dumps(RATING | {"milliseconds": 10**8}).encode(), 400),
        (json.dumps(RATING | {"rater": "0" * 16}).encode(), 400),
        (json.dumps(RATING).encode() + b" " * 4096, 413),
    ],
)
def test_malformed_and_oversized_ratings_are_refused(study, rater, body, status):
    assert rater.post("/api/rate", body).status == status
    assert stored(study, rater) == []


def test_a_body_without_a_length_is_bounded(rater):
    assert rater.post("/api/rate", [b" " * 1000] * 5).status == 413
    assert rater.post("/api/rate", [json.dumps(RATING).encode()]).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "http://127.0.0.1.evil.example"}, 403),
        ({"origin": ""}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"host": "evil.example", "origin": "http://evil.example"}, 400),
    ],
)
def test_other_sites_are_refused(study, rater, headers, status):
    assert rater.post("/api/rate", RATING, **headers).status == status
    assert stored(study, rater) == []


def test_pictures_are_not_for_other_sites(rater):
    assert rater.get("/api/picture/0/0").status == 200
    assert rater.get("/api/picture/0/0", sec_fetch_site="cross-site").status == 403
    answer = rater.get("/")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/key.json",
        "/../key.json",
        "/%2e%2e/key.json",
        "/..%2fkey.json",
        "/page/../../key.json",
        "/stimuli/",
        "/ratings.sqlite",
        "/server.py",
        "/api/picture/..%2f..%2fkey.json/0",
        "/api/picture/0/../../../key.json",
        "/api/picture/-1/0",
        "/api/picture/0/1",
        "/api/picture/32/0",
        "/api/picture/999999999999999999999999/0",
        f"/api/picture/{'9' * 5000}/0",
        "/api/picture/%D9%A1/0",
        "/api/rate",
    ],
)
def test_nothing_else_is_served(rater, study, path):
    answer = rater.get(path)
    assert answer.status in (400, 404, 405)
    assert read_key(study).evaluation not in answer.content.decode()


def test_without_a_rater_there_is_nothing_to_see(study, anonymous):
    anonymous.cookie_name = f"rater-{study_id(study)}"
    for cookie in ("", "x", "../../key.json", "' OR 1=1 --", "x" * 3000):
        anonymous.cookie = cookie
        assert anonymous.get("/api/picture/0/0").status == 401
        assert anonymous.post("/api/rate", RATING).status == 401
        assert anonymous.post("/api/display", DISPLAY).status == 401
        assert anonymous.get("/api/study").json()["rater"] is None


def test_a_token_opens_its_own_raters_answers_alone(study, rater):
    one, other = rater, Client(rater.port)
    name, other.facts = one.facts["rater"], other.join()
    assert one.post("/api/rate", RATING).status == 200
    assert other.get("/api/study").json()["answered"] == []
    assert other.post("/api/rate", RATING | {"answer": 5}).status == 200
    assert other.post("/api/rate", RATING | {"rater": name, "trial": 1}).status == 400
    other.cookie = name  # a pseudonym is no token
    assert other.post("/api/rate", RATING | {"trial": 1}).status == 401
    assert [[rating.answer for rating in stored(study, who)] for who in (one, other)] == [[3], [5]]


def test_joining_twice_is_joining_once(rater):
    name = rater.get("/api/study").json()["rater"]
    answer = rater.post("/api/join", {})
    assert answer.json()["rater"] == name
    assert "set-cookie" not in answer.headers


def test_only_the_rater_gets_a_cookie(anonymous):
    assert "set-cookie" not in anonymous.get("/").headers
    cookie = set(anonymous.post("/api/join", {}).headers["set-cookie"].split("; "))
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= cookie
    assert "Secure" not in cookie  # no TLS here


def test_a_study_with_a_token_needs_it(study):
    token = "s3cretS3cretS3cret"
    with in_thread(study, token, is_local=False) as port:
        client = Client(port)
        for body in ({}, {"token": ""}, {"token": "s3cret"}, {"token": 1}, {"token": "\ud800"}):
            assert client.post("/api/join", body).status == 403
        host = {"host": "study.example", "origin": "https://study.example"}  # behind a proxy
        behind = client.post("/api/join", {"token": token}, **host)
        assert "Secure" in behind.headers["set-cookie"].split("; ")
        client.join(token)
        assert client.get("/api/picture/0/0").status == 200


def test_too_many_requests_are_refused(anonymous):
    """However slow the machine, one that sends without a pause is stopped some time."""
    statuses = [anonymous.get("/api/study").status for _ in range(100)]
    assert statuses == [200] * 100
    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            found = set(pool.map(lambda _: anonymous.get("/api/study").status, range(100)))
            if 429 in found:
                break
    assert found <= {200, 429}
    assert 429 in found


def test_the_page_opens_from_a_link_and_for_a_whole_class(anonymous):
    """A click in a mail is from another site; a class comes from one address."""
    for _ in range(40):
        for path in ("/", "/page.css", "/page.js", "/sources.js"):
            answer = anonymous.get(path, sec_fetch_site="cross-site", sec_fetch_mode="navigate")
            assert answer.status == 200
            assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert anonymous.get("/api/study").status == 200


def test_two_studies_of_a_host_have_two_cookies(study, rater, tmp_path):
    """Browsers send the cookies of a host to all of its ports."""
    with in_thread(made_study(tmp_path, SETTINGS._replace(seed=8))) as port:
        other = Client(port)
        other.join()
    assert other.cookie_name != rater.cookie_name == f"rater-{study_id(study)}"


def test_the_limit_is_everybodys_own():
    limit = RequestLimit()
    assert [limit.seconds_to_wait("a", 0.0) for _ in range(100)] == [0.0] * 100
    assert limit.seconds_to_wait("a", 0.0) == pytest.approx(0.1)
    assert limit.seconds_to_wait("b", 0.0) == 0.0
    assert limit.seconds_to_wait("a", 0.05) == pytest.approx(0.05)
    assert limit.seconds_to_wait("a", 0.11) == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"screen": "cinema"},
        {"light": ["dim"]},
        {"ratio": "2"},
        {"ratio": -1},
        {"width": True},
        {"more": 1},
        {"steps": None},
    ],
)
def test_what_a_rater_tells_of_the_display_is_checked(rater, change):
    assert rater.post("/api/display", DISPLAY | change).status == 400
    assert rater.get("/api/study").json()["hasDisplay"] is False
    assert rater.post("/api/display", DISPLAY).status == 200
    assert rater.get("/api/study").json()["hasDisplay"] is True


@pytest.mark.parametrize(
    ("host", "token", "message"),
    [
        ("0.0.0.0", None, "others can reach it; pass --token"),
        ("::", None, "others can reach it; pass --token"),
        ("0.0.0.0", "short", "at least 16 letters"),
        ("127.0.0.1", "with a space and more", "at least 16 letters"),
        ("127.0.0.1", "é" * 16, "at least 16 letters"),
    ],
)
def test_other_addresses_need_a_token(study, host, token, message):
    with pytest.raises(UserError, match=message):
        serve(study, host, 0, token, print)


def test_a_picture_that_is_gone_is_told(study):
    path = next((study / "stimuli").iterdir())
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(UserError, match=r"\.png: does not read"):
        StudyServer(study, None)
    path.write_bytes(data)
