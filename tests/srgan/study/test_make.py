"""A study that is made from an evaluation."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.evaluation.benchmark import baselines, folder_benchmark
from srgan.evaluation.score_files import read_score_files, write_score_file
from srgan.study.files import read_key, study_id, whole_folder
from srgan.study.make import make_study
from tests.srgan.study.made import SETTINGS, evaluated_run


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return evaluated_run(tmp_path_factory.mktemp("make"))


@pytest.fixture(scope="module")
def study(source, tmp_path_factory):
    benchmark, run = source
    folder = tmp_path_factory.mktemp("made") / "study"
    make_study(benchmark, run, folder, None, SETTINGS)
    return folder


@pytest.fixture
def changed(source, tmp_path):
    """A copy of the RUN that a test may change."""
    return source[0], Path(shutil.copytree(source[1], tmp_path / "run"))


def test_stimuli_are_the_crops_of_the_methods_pictures(source, study):
    benchmark, run = source
    key = read_key(study)
    pairs = {one.name: benchmark.pair(number) for number, one in enumerate(benchmark.hr)}
    shown = set()
    for one in key.stimuli.values():
        found = decode_image((study / f"stimuli/{one.name}.png").read_bytes())
        if one.method == "trap":
            continue
        pair = pairs[one.image]
        whole = baselines(pair, "matlab") | {"hr": pair.hr}
        for method, name in (("srresnet", "srresnet"), ("srgan", "epoch-0002")):
            stored = Path(f"{run}/evaluation/photos/sr/{name}/{one.image}.png")
            whole[method] = decode_image(stored.read_bytes())
        top, left, height, width = one.crop
        expected = whole[one.method][top : top + height, left : left + width]
        np.testing.assert_array_equal(found, expected)
        shown.add((one.image, one.crop, one.method))
    scored = [
        {(key.stimuli[name].image, key.stimuli[name].crop) for name in trial.stimuli}
        for trial in key.plans[0]
        if trial.role == "scored"
    ]
    crops = set().union(*scored)
    assert len(crops) == 4
    methods = ("nearest", "bicubic", "srresnet", "srgan", "hr")
    assert {(*crop, method) for crop in crops for method in methods} <= shown
    assert (key.evaluation, key.epoch) == (f"{run}/evaluation/photos", 2)


def test_what_a_report_states_is_kept(study):
    about = json.loads((study / "about.json").read_text())
    assert (about["crops"], about["crop side"], about["epoch"], about["seed"]) == (4, 64, 2, 7)
    assert about["methods"] == ["nearest", "bicubic", "srresnet", "srgan", "hr"]
    assert (about["trials"], about["sessions"]) == (32, 1)


def test_the_same_command_again_changes_nothing(source, study):
    benchmark, run = source
    before = study_id(study)
    make_study(benchmark, run, study, None, SETTINGS._replace(seed=None, side=None))
    assert study_id(study) == before
    with pytest.raises(UserError, match=r"study of other settings.*crops: 4, now 6.*another --out"):
        make_study(benchmark, run, study, None, SETTINGS._replace(crops=6))
    with pytest.raises(UserError, match="epoch: 2, now 1"):
        make_study(benchmark, run, study, 1, SETTINGS)


def test_a_study_of_a_generator_that_was_trained_anew_is_another_one(changed, tmp_path):
    benchmark, run = changed
    make_study(benchmark, str(run), tmp_path / "study", None, SETTINGS)
    out = open_storage(f"{run}/evaluation/photos")
    file = read_score_files(out)["epoch-0002"]
    write_score_file(out, file._replace(generator_sha256="another"))
    with pytest.raises(UserError, match=r"other settings \(generators: .*another --out"):
        make_study(benchmark, str(run), tmp_path / "study", None, SETTINGS)


def test_without_a_seed_nobody_can_guess_the_plan(source, tmp_path):
    benchmark, run = source
    seeds = [
        make_study(benchmark, run, tmp_path / name, None, SETTINGS._replace(seed=None))["seed"]
        for name in "ab"
    ]
    assert seeds[0] != seeds[1]
    assert read_key(tmp_path / "a").plans != read_key(tmp_path / "b").plans


def test_a_run_without_srresnet_has_four_methods(changed, tmp_path):
    benchmark, run = changed
    (run / "evaluation/photos/scores/srresnet.parquet").unlink()
    about = make_study(benchmark, str(run), tmp_path / "study", 1, SETTINGS)
    assert about["methods"] == ["nearest", "bicubic", "srgan", "hr"]
    assert about["trials"] == 4 * 4 + 4 + 4 + 2 + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no evaluation", "has no evaluated epoch; run jobs.evaluate"),
        ("gone", r"sr/epoch-0002/\w+\.png: is gone; delete scores/"),
        ("damaged", r"sr/epoch-0002/\w+\.png: .*; delete scores/"),
    ],
)
def test_nothing_is_left_of_a_study_that_fails(changed, tmp_path, change, message):
    benchmark, run = changed
    if change == "no evaluation":
        shutil.rmtree(run / "evaluation")
    else:
        for path in (run / "evaluation/photos/sr/epoch-0002").iterdir():
            path.unlink()
            if change == "damaged":
                path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=message):
        make_study(benchmark, str(run), tmp_path / "study", None, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_does_not_fit_is_refused(source, tmp_path):
    benchmark, run = source
    for changes, message in (
        ({"crops": 3}, "--crops 3: a study needs at least 4"),
        ({"crops": 20}, "--crops 20: the images give 12 crops of 64 px, and 24 are needed"),
        ({"side": 256}, "give 0 crops of 256 px"),
        ({"pages": 61}, "--pages 61: pass 0 to 60"),
    ):
        with pytest.raises(UserError, match=message):
            make_study(benchmark, run, tmp_path / "study", None, SETTINGS._replace(**changes))
    with pytest.raises(UserError, match=r"epoch 9 is not evaluated; it has \[1, 2\]"):
        make_study(benchmark, run, tmp_path / "study", 9, SETTINGS)
    hr = Path(benchmark.hr[0].storage.uri)
    other = folder_benchmark(str(hr), None, scale=4, kernel="opencv")
    with pytest.raises(UserError, match=r"of other images .*LR: matlab, now opencv.*--kernel"):
        make_study(other, run, tmp_path / "study", None, SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_the_largest_crops_that_are_enough(source, tmp_path):
    benchmark, run = source
    about = make_study(benchmark, run, tmp_path / "study", None, SETTINGS._replace(side=None))
    assert about["crop side"] == 64  # of 96 and 128 there are three


def test_a_folder_appears_whole(tmp_path):
    study = tmp_path / "study"
    with suppress(KeyboardInterrupt), whole_folder(study) as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".study.killed.partial").mkdir()  # nobody holds it
    with whole_folder(study) as folder:
        (folder / "a").write_text("whole")
        with whole_folder(tmp_path / "other"):
            pass
        assert folder.exists()
        assert not study.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "study"]
    with pytest.raises(UserError, match="is there already"), whole_folder(study):
        pass
