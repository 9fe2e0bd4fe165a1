"""From ratings to the tables of the study and of its evaluation, on a real RUN's files."""

import csv
import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline.images import decode_image
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import open_storage
from jobs import study as study_job
from srgan.evaluation.benchmark import folder_benchmark
from srgan.evaluation.evaluate import evaluate
from srgan.evaluation.opinions import Opinions, read_opinions, write_opinions
from srgan.evaluation.run_reader import open_run
from srgan.evaluation.score_files import ScoreFile, read_score_files, write_score_file
from srgan.evaluation.table import METHODS, ImageScore
from srgan.run_layout import generator_key, phase_generator_key
from srgan.study.files import read_key, study_id
from srgan.study.panel import make_panel
from srgan.study.score import score
from srgan.study.screening import screen
from srgan.study.simulation import TRUE_SCORES, simulate
from tests.conftest import ROOT
from tests.srgan.study.made import StudySettings, made_study

PRESSED = {"nearest": 1, "bicubic": 2, "srresnet": 3, "srgan": 4, "hr": 5}
GENERATORS = {
    "srresnet": phase_generator_key("pretrain"),
    "epoch-0001": generator_key(1),
    "epoch-0002": generator_key(2),
}


def with_tables(study):
    """Completes the evaluation of `made_study`: generators, scores, tables. No network scores."""
    key = read_key(study)
    run = open_storage(key.evaluation.rpartition("/evaluation/")[0])
    for name, path in GENERATORS.items():
        run.write(path, name.encode())
    reader, out = open_run(run.uri), open_storage(key.evaluation)
    benchmark = folder_benchmark(f"{study.parent}/photos", None, scale=4, kernel="matlab")
    protocol = benchmark.with_sha256().protocol() | {
        "run sha256": reader.identity,
        "VGG sha256": reader.vgg_sha256,
    }
    for name in read_score_files(out):
        methods = ("nearest", "bicubic", "hr") if name == "baselines" else (name,)
        scores = [
            ImageScore(
                int(method[-4:]) if method.startswith("epoch") else None,
                "srgan" if method.startswith("epoch") else method,
                image.name,
                {"psnr_rgb": 25.0, "psnr_y": 26.0, "ssim_rgb": 0.7, "ssim_y": 0.7},
            )
            for method in methods
            for image in benchmark.hr
        ]
        sha256 = sha256_hex(name.encode()) if name in GENERATORS else ""
        write_score_file(out, ScoreFile(name, protocol, sha256, scores))
    again(study)


def again(study):
    """`jobs.evaluate` once more; it finds nothing to score."""
    run = read_key(study).evaluation.rpartition("/evaluation/")[0]
    benchmark = folder_benchmark(f"{study.parent}/photos", None, scale=4, kernel="matlab")
    evaluate(benchmark, run_uri=run, out_uri=None, epochs=None)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    study = made_study(tmp_path_factory.mktemp("study"))
    with_tables(study)
    return study


@pytest.fixture(scope="module")
def scored_original(original, tmp_path_factory):
    """Three raters who press what PRESSED says, and one who presses 5 always; scored."""
    study = copied(original, tmp_path_factory.mktemp("scored"))
    files = [pressed(study, name(number), number, PRESSED.get) for number in range(3)]
    files.append(pressed(study, name(9), 9, lambda _: 5, careless=True))
    summary = score(study, ratings=files, simulate=None)
    assert summary.table == results(study).read("scores.md").decode()
    assert summary.uri == results(study).uri
    return study


def copied(study, folder):
    """A copy with an evaluation and images of its own; it is another study then."""
    shutil.copytree(study.parent, folder / "copy")
    for file in ("study/key.json", "run/evaluation/photos/protocol.json"):
        path = folder / "copy" / file
        path.write_text(path.read_text().replace(str(study.parent), str(folder / "copy")))
    return folder / "copy/study"


@pytest.fixture
def study(original, tmp_path):
    """A study without ratings, for a test to change."""
    return copied(original, tmp_path)


@pytest.fixture
def scored(scored_original, tmp_path):
    """A study that was scored, for a test to change."""
    return copied(scored_original, tmp_path)


def results(study, name="study-study"):
    return open_storage(f"{read_key(study).evaluation}/{name}")


def rows(storage, key):
    return list(csv.DictReader(io.StringIO(storage.read(key).decode())))


def column(study, title):
    """A column of the table of all measures in psnr.md, and of the page, by row."""
    out = open_storage(read_key(study).evaluation)
    table = out.read("psnr.md").decode().partition("All measures:")[2].splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in table if line.startswith("|")]
    place = cells[0].index(title)
    assert title in out.read("report.html").decode()
    return {" ".join(row[:2]).strip(): row[place] for row in cells[2:]}


def pressed(study, rater, number, press, careless=False):
    """A file as the page saves it: what `press` says of a method, in every trial."""
    key = read_key(study)
    plan = key.plans[number]
    ratings = [
        {
            "trial": trial.number,
            "answer": (
                trial.expected[0]
                if trial.expected and not careless
                else press(*(key.stimuli[name].method for name in trial.stimuli))
            ),
            "milliseconds": 1200,
        }
        for trial in plan
    ]
    content = {"study": study_id(study), "rater": rater, "plan": number, "ratings": ratings}
    path = study.parent / f"{rater}.json"
    path.write_text(json.dumps(content))
    return path


def name(number):
    return f"{number:016x}"


def test_the_tables_hold_what_was_pressed(scored):
    out = results(scored)
    table = out.read("scores.md").decode()
    found = rows(out, "scores.csv")
    assert {row["method"]: float(row["score"]) for row in found} == PRESSED
    assert {row["simulated"] for row in found} == {"false"}
    assert [row["epoch"] for row in found] == ["", "", "", "2", ""]
    assert "Study study: 3 of 4 raters count, 4 crops." in table
    assert "| SRGAN, epoch 2 | 4.00 | 4.00 to 4.00 | 12 | 4.00 |" in table
    assert f"- {name(9)}: missed " in table
    raters = rows(out, "raters.csv")
    assert [bool(row["left_out"]) for row in raters] == [False, False, False, True]
    assert [row["bias"] for row in raters] == ["0.0000", "0.0000", "0.0000", ""]
    (gain,) = (
        row
        for row in rows(out, "comparisons.csv")
        if (row["method"], row["reference"]) == ("srgan", "srresnet")
    )
    assert float(gain["difference"]) == 1
    stored = pq.read_table(io.BytesIO(out.read("ratings.parquet"))).to_pylist()
    assert len(stored) == 4 * len(read_key(scored).plans[0])
    assert {row["rater"] for row in stored if row["left_out"]} == {name(9)}
    answers = [row for row in stored if row["role"] == "scored" and not row["left_out"]]
    assert all(row["answer"] == PRESSED[row["methods"][0]] for row in answers)
    assert decode_image(out.read("scores.png")).std() > 10


def test_the_evaluation_gets_a_column_that_stays(original, scored):
    before = open_storage(read_key(original).evaluation)
    assert "MOS" not in before.read("psnr.md").decode()
    assert column(scored, "MOS") == {
        "nearest": "1.00",
        "bicubic": "2.00",
        "SRResNet": "3.00",
        "SRGAN 1": "–",
        "SRGAN 2": "4.00",
        "HR": "5.00",
    }
    note = "MOS: mean of the answers 1 (bad) to 5 (excellent) of 3 raters, study study; 95 %"
    evaluation = open_storage(read_key(scored).evaluation)
    table, page = (evaluation.read(key).decode() for key in ("psnr.md", "report.html"))
    assert note in table
    assert note in page
    again(scored)
    assert evaluation.read("psnr.md").decode() == table
    assert column(scored, "MOS")["SRGAN 2"] == "4.00"


def test_scores_of_a_generator_that_is_another_one_now_are_left_out(scored, caplog):
    evaluation = open_storage(read_key(scored).evaluation)
    stored = json.loads(evaluation.read("mos.json"))
    stored["generators"]["epoch-0002"] = "another"
    evaluation.write("mos.json", json.dumps(stored).encode())
    again(scored)
    found = column(scored, "MOS")
    assert (found["SRGAN 2"], found["SRResNet"]) == ("–", "3.00")
    assert "epoch-0002 is left out: the generator is another one now" in caplog.text


def test_a_generator_that_was_trained_anew_after_the_study_gets_no_score(study):
    evaluation = open_storage(read_key(study).evaluation)
    files = [pressed(study, name(number), number, PRESSED.get) for number in range(3)]
    run = open_storage(evaluation.uri.rpartition("/evaluation/")[0])
    run.write(generator_key(2), b"trained anew")
    file = read_score_files(evaluation)["epoch-0002"]
    write_score_file(evaluation, file._replace(generator_sha256=sha256_hex(b"trained anew")))
    score(study, ratings=files, simulate=None)
    found = column(study, "MOS")
    assert (found["SRGAN 2"], found["SRResNet"]) == ("–", "3.00")


def test_simulated_scores_are_marked(study):
    summary = score(study, ratings=[], simulate=6)
    out = results(study, "simulated-study-study")
    assert summary.uri == out.uri
    assert "SIMULATED" in summary.table
    assert "±0.2 for every method" in summary.table
    headers = [line for line in summary.table.splitlines() if line.startswith("| method")]
    assert len(headers) == 2
    assert all("(simulated)" in line for line in headers)
    for key in ("scores.csv", "comparisons.csv", "raters.csv"):
        assert {row["simulated"] for row in rows(out, key)} == {"true"}
    stored = pq.read_table(io.BytesIO(out.read("ratings.parquet"))).to_pylist()
    assert all(row["simulated"] for row in stored)
    assert column(study, "MOS (simulated)")["SRGAN 2"] != "–"


def test_simulated_scores_never_replace_real_ones(scored):
    real = {one: results(scored).read(one) for one in ("scores.csv", "ratings.parquet")}
    score(scored, ratings=[], simulate=6)
    assert {one: results(scored).read(one) for one in real} == real
    again(scored)
    assert column(scored, "MOS")["SRGAN 2"] == "4.00"
    stored = read_opinions(open_storage(read_key(scored).evaluation))
    assert (stored.simulated, stored.raters) == (False, 3)


def test_real_scores_replace_simulated_ones(study):
    evaluation = open_storage(read_key(study).evaluation)
    simulated = Opinions("study", True, 6, 2, {}, {"hr": (4.2, None, None)})
    real = simulated._replace(simulated=False, scores={"hr": (4.4, 4.1, 4.6)})
    assert write_opinions(evaluation, simulated)
    assert read_opinions(evaluation) == simulated
    assert write_opinions(evaluation, real)
    assert not write_opinions(evaluation, simulated)
    assert read_opinions(evaluation) == real


def test_a_simulated_panel_is_near_its_true_means(original):
    key = read_key(original)
    ratings = simulate(key, 60, seed=1)
    assert ratings == simulate(key, 60, seed=1)
    panel = make_panel(key, ratings)
    assert not np.isnan(panel.values).any()
    assert panel.methods == list(METHODS)
    truth = np.array([TRUE_SCORES[method] for method in panel.methods])
    # 4 pictures differ by 0.35: a standard error of 0.17, and 0.04 of the raters.
    assert np.all(abs(panel.values.mean((0, 1)) - truth) < 0.55)
    # 20 answers are few: BT.500 leaves out who is far above once and far below once.
    left_out = [one for one in screen(key, ratings) if one.reasons]
    assert len(left_out) <= 6
    assert all("BT.500" in one.reasons[0] for one in left_out)


def test_pairs(tmp_path):
    study = made_study(tmp_path, StudySettings("pairs", 4, 64, 7, 0))

    def better(left, right):
        return int(PRESSED.get(right, 0) > PRESSED.get(left, 0))

    files = [pressed(study, name(number), number, better) for number in range(3)]
    summary = score(study, ratings=files, simulate=None)
    found = rows(results(study), "scores.csv")
    assert [row["method"] for row in found] == list(METHODS)
    assert list(np.diff([float(row["score"]) for row in found]) > 0) == [True] * 4
    assert {row["unbiased"] for row in found} == {""}
    assert "Bradley-Terry strength" in summary.table
    assert read_opinions(open_storage(read_key(study).evaluation)) is None


def test_bad_input_is_one_line(study):
    with pytest.raises(UserError, match="holds no ratings yet"):
        score(study, ratings=[], simulate=None)
    for raters in (1, 100_000):
        with pytest.raises(UserError, match=f"--simulate {raters}: pass 2 to 1000"):
            score(study, ratings=[], simulate=raters)
    careless = pressed(study, name(1), 1, lambda _: 5, careless=True)
    with pytest.raises(UserError, match=r"no rater counts \(0000000000000001: missed "):
        score(study, ratings=[careless], simulate=None)
    evaluation = open_storage(read_key(study).evaluation)
    assert not evaluation.list("study-")
    evaluation.write("mos.json", b"{}")
    with pytest.raises(UserError, match=r"mos\.json: is damaged"):
        again(study)


def test_without_the_images_the_scores_are_stored_all_the_same(study, caplog):
    shutil.rmtree(study.parent / "photos")
    files = [pressed(study, name(number), number, PRESSED.get) for number in range(3)]
    score(study, ratings=files, simulate=None)
    assert "run jobs.evaluate again, and its tables have them" in caplog.text
    assert float(rows(results(study), "scores.csv")[0]["score"]) == 1


def test_the_command_prints_the_table(study, monkeypatch, capsys):
    path = pressed(study, name(1), 1, PRESSED.get)
    monkeypatch.setattr(
        "sys.argv", ["study", "score", "--study", str(study), "--ratings", str(path)]
    )
    study_job.main()
    assert "| HR | 5.00 | – | 4 | 5.00 |" in capsys.readouterr().out  # one rater: no interval


@pytest.mark.slow
def test_the_example_in_the_docs(tmp_path):
    study = made_study(tmp_path, StudySettings("acr", 16, 64, 7, 0), side=256)
    table = score(study, ratings=[], simulate=24).table
    assert table in (ROOT / "docs/study.md").read_text()
