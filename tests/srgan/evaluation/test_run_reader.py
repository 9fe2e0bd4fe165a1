"""Which scale and kernel a RUN has, and by which ones a folder of images is scored."""

import json

import pytest

from data_pipeline.manifest import FORMAT_VERSION, MANIFEST_KEY, Manifest
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.evaluation.run_reader import folder_scale_and_kernel, open_run
from srgan.generator_file import save_generator
from srgan.networks import generator
from srgan.run_layout import generator_key
from tests.conftest import data_settings

CONFIG = b"{generator: {blocks: 1, filters: 4}, phases: {gan: {epochs: 2, losses: {mse: 1}}}}"


@pytest.fixture
def noted(tmp_path):
    """Writes a RUN whose dataset.json is this, and opens it."""

    def write(**data_set):
        run = open_storage(str(tmp_path / "run"))
        run.write("config.yaml", CONFIG)
        data_set = {"uri": f"{tmp_path}/gone", "manifest_sha256": "abc"} | data_set
        run.write("dataset.json", json.dumps(data_set).encode())
        return open_run(run.uri)

    return write


@pytest.fixture
def opencv_data(tmp_path):
    """URI and sha256 of a data set of scale 2 by OpenCV's kernel. It has a manifest alone."""
    settings = data_settings(tmp_path, scale=2, kernel="opencv")
    manifest = Manifest(format_version=FORMAT_VERSION, settings=settings, shards=(), valid=())
    data = open_storage(str(tmp_path / "data"))
    data.write(MANIFEST_KEY, manifest.to_json())
    return {"uri": data.uri, "manifest_sha256": manifest.sha256()}


def test_a_run_notes_its_scale_and_kernel_which_do_not_change_its_identity(noted):
    run, older = noted(scale=8, kernel="opencv"), noted()
    assert (run.scale, run.kernel) == (8, "opencv")
    assert run.identity == older.identity


def test_a_run_of_a_scale_that_older_versions_had_is_refused(noted):
    with pytest.raises(UserError, match=r"/run: is a run of x16; .*only of x2, x3, x4, x8"):
        noted(scale=16, kernel="matlab")


def test_of_an_older_run_the_data_set_tells_them(noted, opencv_data):
    run = noted(**opencv_data)
    assert (run.scale, run.kernel) == (2, "opencv")


def test_a_data_set_that_was_made_anew_tells_nothing(noted, opencv_data):
    run = noted(uri=opencv_data["uri"])
    assert (run.scale, run.kernel) == (None, None)


def test_lr_files_have_no_kernel(tmp_path):
    assert data_settings(tmp_path, kernel="opencv").train_kernel == "opencv"
    assert data_settings(tmp_path, lr_source="lr").train_kernel is None


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("uri", ["/no/such/folder", "s3x://bucket/data"])
def test_without_its_data_set_the_first_generator_that_reads_tells_the_scale(noted, uri, scale):
    run = noted(uri=uri).storage
    for epoch, damaged in ((1, b""), (2, b"no zip file")):
        run.write(generator_key(epoch), damaged)
    save_generator(generator(scale=scale, blocks=1, filters=4), run, generator_key(3))
    opened = open_run(run.uri)
    assert (opened.scale, opened.kernel) == (scale, None)


def test_a_folder_is_scored_by_the_runs_own_scale_and_kernel(noted, caplog):
    run = noted(scale=2, kernel="opencv")
    assert folder_scale_and_kernel(run, None, None) == (2, "opencv")
    assert folder_scale_and_kernel(run, 2, "matlab") == (2, "matlab")
    assert folder_scale_and_kernel(None, None, None) == (4, "matlab")
    assert folder_scale_and_kernel(None, 8, "opencv") == (8, "opencv")
    assert caplog.text == ""
    with pytest.raises(UserError, match=r"--scale 4: .*/run is a run of x2; leave --scale out"):
        folder_scale_and_kernel(run, 4, None)


def test_a_kernel_that_is_not_known_is_told(noted, caplog):
    run = noted(scale=3, kernel=None)
    assert folder_scale_and_kernel(run, None, "opencv") == (3, "opencv")
    assert caplog.text == ""
    assert folder_scale_and_kernel(run, None, None) == (3, "matlab")
    (record,) = caplog.records
    assert "/run: the kernel of its LR is not known" in record.getMessage()
    assert "matlab is used" in record.getMessage()


def test_a_scale_that_is_not_known_is_asked_for(noted):
    with pytest.raises(UserError, match=r"/run: has no generator yet.*gone.*; pass --scale"):
        folder_scale_and_kernel(noted(), None, "matlab")
    assert folder_scale_and_kernel(noted(), 3, "matlab") == (3, "matlab")
