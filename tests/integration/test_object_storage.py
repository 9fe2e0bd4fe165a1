"""The whole path with everything in a bucket, as processes: on moto and on a real server, Ceph."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobs import prepare, train
from tests.conftest import new_bucket, s3_client, use_server
from tests.integration.conftest import CONFIG
from tests.integration.jobs import finish, refusal, start, starts
from tests.integration.radosgw import other_user
from tests.s3_servers import USUAL_FAULTS, S3Server, faulty

SHARD = "train/00000.arrow"


class Bucket(NamedTuple):
    """A bucket, and what a person does with it by other tools."""

    client: Any
    name: str

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    def upload(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str) -> list[str]:
        """The keys of all objects below `prefix`, without it."""
        answer = self.client.list_objects_v2(Bucket=self.name, Prefix=f"{prefix}/")
        return [found["Key"].removeprefix(f"{prefix}/") for found in answer.get("Contents", ())]

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Every object below `prefix`, by the rest of its key."""
        return {key: self.get(f"{prefix}/{key}") for key in self.keys(prefix)}

    def unfinished_uploads(self) -> list[Any]:
        return self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])


@pytest.fixture(scope="module", params=["moto", pytest.param("ceph", marks=pytest.mark.soak)])
def server(request) -> Iterator[S3Server]:
    """A server; the environment of what this process starts leads there."""
    found: S3Server = request.getfixturevalue(request.param)
    with pytest.MonkeyPatch.context() as patch:
        use_server(patch, found)
        yield found


@pytest.fixture(scope="module")
def bucket(server, photos, valid_photos) -> Bucket:
    """A bucket with photographs below `photos` and `valid`."""
    bucket = Bucket(s3_client(server), new_bucket(server))
    bucket.upload(photos, "photos")
    bucket.upload(valid_photos, "valid")
    return bucket


def prepare_arguments(bucket: Bucket, data: str) -> list[Any]:
    arguments = ["--source", f"{bucket.uri}/photos", "--valid-source", f"{bucket.uri}/valid"]
    return [*arguments, "--patch-size", 48, "--stride", 24, "--out", f"{bucket.uri}/{data}"]


@pytest.fixture(scope="module")
def prepared(bucket) -> dict[str, bytes]:
    """What jobs.prepare has put below `data`; tests must not change it."""
    finish("prepare", *prepare_arguments(bucket, "data"))
    return bucket.contents("data")


@pytest.fixture
def copy(bucket, prepared) -> str:
    """A copy of `data` to damage."""
    for key, data in prepared.items():
        bucket.put(f"copy/{key}", data)
    return f"{bucket.uri}/copy"


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG.replace("epochs: 2", "epochs: 1").replace("epochs: 3", "epochs: 2"))
    return path


def train_anew(config: Path, data: str, tmp_path: Path, monkeypatch) -> str:
    """Trains on DATA with an empty cache, which must fail; returns the line that says why."""
    monkeypatch.setenv("SRGAN_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    error = refusal(start("train", "--config", config, "--data", data, "--run", run), code=1)
    assert not (run / "metrics.jsonl").exists()
    return error


def test_prepared_objects_are_those_of_a_local_build(
    bucket, prepared, small_data, photos, valid_photos
):
    local = {
        path.relative_to(small_data).as_posix(): path.read_bytes()
        for path in small_data.rglob("*")
        if path.is_file()
    }
    manifest = local["manifest.json"].decode()
    for folder, prefix in ((photos, "photos"), (valid_photos, "valid")):
        assert manifest.count(f'"{folder}"') == 1
        manifest = manifest.replace(f'"{folder}"', f'"{bucket.uri}/{prefix}"')
    assert prepared == local | {"manifest.json": manifest.encode()}


def test_prepare_said_again_has_nothing_to_do(bucket, prepared, command, caplog):
    with caplog.at_level("INFO"):
        assert command(prepare, *prepare_arguments(bucket, "data")).code == 0
    assert f"{bucket.uri}/data: already complete, nothing to do" in caplog.text
    assert bucket.contents("data") == prepared


def test_train_and_evaluate(bucket, prepared, config, command, caplog):
    data, run = f"{bucket.uri}/data", f"{bucket.uri}/run"
    output = finish("prepare", "--verify", data)
    assert f"{data}: all 4 parts are what the manifest says" in output
    finish("train", "--config", config, "--data", data, "--run", run)
    found = bucket.contents("run")
    assert {"config.yaml", "dataset.json", "metrics.jsonl"} < found.keys()
    for key in (
        "generators/epoch-0002.keras",
        "samples/epoch-0002.png",
    ):
        assert key in found
    assert sum(key.startswith("tensorboard/events.out.tfevents.") for key in found) == 3
    records = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    assert [(record["phase"], record["epoch"]) for record in records] == [
        ("pretrain", 1),
        ("gan", 1),
        ("gan", 2),
    ]
    checkpoints = {key.split("/")[1] for key in found if key.endswith("/state.npz")}
    assert len(checkpoints) == 3
    with caplog.at_level("INFO"):
        assert command(train, "--config", config, "--data", data, "--run", run).code == 0
    assert f"{run}: all 3 epochs are done already" in caplog.text
    finish("evaluate", "--run", run, "--data", data)
    table = bucket.get("run/evaluation/data/psnr.csv").decode().splitlines()
    assert table[0] == "epoch,nearest,bicubic,srgan,hr"
    assert [line.split(",")[0] for line in table[1:]] == ["1", "2"]


@pytest.mark.slow
def test_a_checkpoint_that_is_refused(server, bucket, prepared, config, monkeypatch):
    """Rights that end in the middle of a run: told in one line, and what was saved stays."""
    arguments = ["--config", config, "--data", f"{bucket.uri}/data", "--run", f"{bucket.uri}/lost"]
    written = []

    def denies(method, path):
        if method == "PUT" and "state.npz" in path:
            written.append(path)
        return len(written) > 3 and "checkpoints" in path and method == "PUT"

    with monkeypatch.context() as patch, faulty(server, every=1 << 30) as proxy:
        use_server(patch, proxy.server)
        proxy.denies = denies
        error = refusal(start("train", *arguments))
    assert error.startswith(f"{bucket.uri}/lost/checkpoints/")
    assert "denies PutObject; grant these credentials" in error
    saved = [key for key in bucket.contents("lost") if key.endswith("checkpoint.json")]
    assert saved
    step = max(json.loads(bucket.get(f"lost/{key}"))["step"] for key in saved)
    assert starts(finish("train", *arguments)) == [step]


@pytest.mark.slow
def test_a_missing_shard_is_named_and_restored(
    bucket, prepared, copy, config, tmp_path, monkeypatch
):
    bucket.delete(f"copy/{SHARD}")
    error = refusal(start("prepare", "--verify", copy))
    assert error.startswith(f"{copy}/{SHARD}: is missing; ")
    error = train_anew(config, copy, tmp_path, monkeypatch)
    assert error.startswith(f"training failed: {copy}/{SHARD}: is missing; ")
    finish("prepare", *prepare_arguments(bucket, "copy"))
    assert bucket.contents("copy") == prepared


@pytest.mark.slow
def test_a_flipped_byte_is_found(bucket, prepared, copy, config, tmp_path, monkeypatch):
    content = bytearray(prepared[SHARD])
    content[len(content) // 2] ^= 1
    bucket.put(f"copy/{SHARD}", bytes(content))
    (shard,) = json.loads(prepared["manifest.json"])["shards"]
    expected, found = shard["sha256"], hashlib.sha256(content).hexdigest()
    damage = f"{copy}/{SHARD}: expected sha256 {expected}, found {found}; "
    assert refusal(start("prepare", "--verify", copy)).startswith(damage)
    error = train_anew(config, copy, tmp_path, monkeypatch)
    assert error.startswith(f"training failed: {damage}")


@pytest.mark.slow
def test_prepare_through_faults(server, bucket, prepared, monkeypatch):
    with faulty(server, every=3) as proxy:
        use_server(monkeypatch, proxy.server)
        finish("prepare", *prepare_arguments(bucket, "spoiled"))
        assert set(proxy.faults) == set(USUAL_FAULTS)
    assert bucket.contents("spoiled") == prepared
    assert bucket.unfinished_uploads() == []


@pytest.mark.slow
def test_a_wrong_secret(ceph, monkeypatch):
    wrong = ceph._replace(secret_key="wrong-secret")
    use_server(monkeypatch, wrong)
    error = refusal(start("prepare", "--verify", f"s3://{new_bucket(ceph)}/data"))
    assert f"{ceph.endpoint} refuses the AWS credentials (SignatureDoesNotMatch)" in error
    for secret in (ceph.access_key, ceph.secret_key, wrong.secret_key):
        assert secret not in error


@pytest.mark.slow
def test_the_bucket_of_another_user(ceph, ceph_folder, photos, monkeypatch):
    other = other_user(ceph_folder, ceph)
    use_server(monkeypatch, other)
    uri = f"s3://{new_bucket(ceph)}/data"
    error = refusal(start("prepare", "--source", photos, "--out", uri))
    assert error.startswith(f"{uri}: {ceph.endpoint} denies ListObjectsV2; grant these credentials")
    for secret in (other.access_key, other.secret_key):
        assert secret not in error
