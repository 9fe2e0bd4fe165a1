import json

import pytest

from data_pipeline.platform.errors import UserError
from srgan.study.files import read_key, read_ratings, study_folder, study_id, write_key
from srgan.study.records import Key, Rating, Stimulus, Trial
from srgan.study.store import RATINGS_FILE, RatingStore

RATER = "0123456789abcdef"


@pytest.fixture
def study(tmp_path):
    stimuli = [Stimulus(name, "baby", "hr", (0, 8, 64, 64)) for name in ("0a", "0b")]
    plan = [Trial(0, 0, "training", ("0a",), (5,)), Trial(1, 0, "scored", ("0b",))]
    shown = {one.name: one for one in stimuli}
    write_key(tmp_path, Key("acr", "s3://b/e", 2, {"epoch-0002": "ab"}, shown, [plan] * 2))
    return tmp_path


def exported(folder, name="a.json", **changes):
    content = {
        "study": study_id(folder),
        "rater": RATER,
        "plan": 1,
        "ratings": [{"trial": 1, "answer": 4, "milliseconds": 900}],
    }
    path = folder / name
    path.write_text(json.dumps(content | changes))
    return path


def test_a_key_reads_as_it_was_written(study):
    key = read_key(study)
    assert key.plans[1][0] == Trial(0, 0, "training", ("0a",), (5,))
    assert key.stimuli["0b"] == Stimulus("0b", "baby", "hr", (0, 8, 64, 64))
    assert (key.mode, key.evaluation, key.epoch) == ("acr", "s3://b/e", 2)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format": 2}', b'{"format": 1, "mode": "acr"}'])
def test_a_wrong_key_is_one_line(study, data):
    (study / "key.json").write_bytes(data)
    with pytest.raises(UserError, match=r"key\.json: (is damaged|has format)"):
        read_key(study)


def test_a_study_is_a_local_folder(tmp_path):
    assert study_folder(str(tmp_path)) == tmp_path
    for text in ("s3://bucket/study", ""):
        with pytest.raises(UserError, match="local folder"):
            study_folder(text)
    with pytest.raises(UserError, match="is no study"):
        read_key(tmp_path)


def test_a_rating_from_both_counts_once(study):
    store = RatingStore(study, study_id(study), 2)
    store.join()
    _, rater = store.join()
    store.add(Rating(rater.name, 1, 1, 4, 1000))
    file = exported(study, rater=rater.name)
    other = exported(study, "b.json")
    ratings = read_ratings(study, [file, other, other])
    assert sorted(ratings) == sorted(
        [Rating(rater.name, 1, 1, 4, 1000), Rating(RATER, 1, 1, 4, 900)]
    )
    assert read_ratings(study, []) == [Rating(rater.name, 1, 1, 4, 1000)]
    store.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": "0" * 16}, "of another study"),
        ({"rater": "../../x"}, "is no file of ratings"),
        ({"rater": 7}, "is no file of ratings"),
        ({"ratings": [{"trial": 1}]}, "is no file of ratings"),
        ({"ratings": [{"trial": 1, "answer": True, "milliseconds": 1}]}, "is no file of ratings"),
        ({"ratings": [{"trial": 1, "answer": 6, "milliseconds": 1}]}, "does not fit"),
        ({"ratings": [{"trial": 2, "answer": 5, "milliseconds": 1}]}, "does not fit"),
        ({"plan": 2}, "does not fit"),
    ],
)
def test_a_file_that_is_wrong_is_named(study, changes, message):
    with pytest.raises(UserError, match=rf"a\.json: .*{message}"):
        read_ratings(study, [exported(study, **changes)])


def test_answers_that_differ_are_refused(study):
    first = exported(study)
    second = exported(study, "b.json", ratings=[{"trial": 1, "answer": 2, "milliseconds": 9}])
    with pytest.raises(
        UserError, match=r"b\.json: 0123456789abcdef answers trial 1 with 2, and .*4"
    ):
        read_ratings(study, [first, second])


def test_a_rater_has_one_plan(study):
    first = exported(study)
    second = exported(study, "b.json", plan=0, ratings=[])
    assert read_ratings(study, [first, second]) == read_ratings(study, [first])
    answer = {"trial": 0, "answer": 2, "milliseconds": 9}
    third = exported(study, "c.json", plan=0, ratings=[answer])
    with pytest.raises(UserError, match=r"c\.json: 0123456789abcdef has plan 0, and elsewhere 1"):
        read_ratings(study, [first, third])


def test_a_file_without_an_end_is_no_file_of_ratings(study, tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"deep\.json: is no file of ratings"):
        read_ratings(study, [path])


def test_the_first_answer_stays(study):
    store = RatingStore(study, study_id(study), 2)
    token, rater = store.join()
    assert store.find(token) == rater
    assert store.find("x" + token) is None
    assert store.add(Rating(rater.name, 0, 1, 3, 10)) == "stored"
    assert store.add(Rating(rater.name, 0, 1, 3, 99)) == "stored"
    assert store.add(Rating(rater.name, 0, 1, 2, 10)) == "other"
    assert store.answered(rater.name) == [1]
    assert read_ratings(study, []) == [Rating(rater.name, 0, 1, 3, 10)]
    store.close()
    assert token.encode() not in (study / RATINGS_FILE).read_bytes()


def test_ratings_of_another_study_are_refused(study):
    RatingStore(study, "f" * 16, 2).close()
    with pytest.raises(UserError, match="of another study"):
        read_ratings(study, [])
    with pytest.raises(UserError, match="of another study"):
        RatingStore(study, study_id(study), 2)


def test_an_acknowledged_rating_is_on_the_disk(study):
    """What SQLite does at a commit: with FULL it waits for the disk, in the log as well."""
    store = RatingStore(study, study_id(study), 2)
    asked = [
        store._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("synchronous", "journal_mode")
    ]
    assert asked == [2, "wal"]
    store.close()
