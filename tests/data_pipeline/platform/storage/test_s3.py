"""The S3 storage against a real server, a spoiled one, and one that refuses."""

import hashlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from botocore.exceptions import EndpointConnectionError

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import open_storage
from data_pipeline.platform.storage.s3_errors import explain
from tests.conftest import s3_client, use_environment, use_server
from tests.s3_servers import HOST, USUAL_FAULTS, Fault, answering, faulty

MEGABYTE = 1 << 20


@pytest.fixture
def client(moto):
    """What other tools of the user see and do."""
    return s3_client(moto)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder of files on their way, and a check that none is left."""
    monkeypatch.setenv("SRGAN_CACHE", str(tmp_path / "node"))
    folder = tmp_path / "node" / "scratch"
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def quick_retries(monkeypatch):
    """Repeats without the pauses, which last up to 20 seconds."""
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01
    )
    monkeypatch.setattr("data_pipeline.platform.storage.s3_connection._PAUSES", (0.01, 0.01, 0.01))


@pytest.fixture
def small_parts(monkeypatch):
    """Multipart from 6 MiB on, in parts of S3's minimum."""
    monkeypatch.setattr("data_pipeline.platform.storage.s3._MULTIPART_THRESHOLD", 6 * MEGABYTE)
    monkeypatch.setattr("data_pipeline.platform.storage.s3._PART_BYTES", 5 * MEGABYTE)


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def keys(storage, prefix: str = "") -> list[str]:
    return [found.key for found in storage.list(prefix)]


def unfinished_uploads(client, bucket: str) -> list[str]:
    answer = client.list_multipart_uploads(Bucket=bucket)
    return [upload["Key"] for upload in answer.get("Uploads", ())]


def test_objects_are_written_listed_read_and_deleted(bucket, client):
    storage = open_storage(f"s3://{bucket}/deep/data/")
    assert storage.uri == f"s3://{bucket}/deep/data"
    assert storage.list() == []
    for key in ("b/2", "a", "b/10", "ü b+c%20"):
        storage.write(key, key.encode() * 2)
    storage.write("a", b"new")
    storage.write("empty", b"")
    client.put_object(Bucket=bucket, Key="deep/data/b/")  # a "folder" of the AWS console
    assert keys(storage) == ["a", "b/10", "b/2", "empty", "ü b+c%20"]
    assert [found.size for found in storage.list("b/")] == [8, 6]
    assert storage.read("a") == b"new"
    assert storage.read("ü b+c%20") == "ü b+c%20".encode() * 2
    assert storage.read("empty") == b""
    assert storage.size("b/10") == 8
    assert storage.size("empty") == 0
    assert storage.size("ü b+c%20") == 18
    assert storage.size("b") is None
    storage.delete("b/10")
    storage.delete("b/10")
    assert storage.size("b/10") is None
    with pytest.raises(FileNotFoundError, match=f"s3://{bucket}/deep/data/b/10"):
        storage.read("b/10")
    with pytest.raises(FileNotFoundError):
        next(storage.stream("b/10"))
    answer = client.get_object(Bucket=bucket, Key="deep/data/a")
    assert answer["Body"].read() == b"new"


def test_a_whole_bucket_is_a_storage(bucket):
    storage = open_storage(f"s3://{bucket}")
    storage.write("x/y", b"1")
    assert [found[:2] for found in storage.list()] == [("x/y", 1)]
    assert open_storage(f"s3://{bucket}/x").read("y") == b"1"


def test_a_sibling_whose_name_begins_alike_is_not_listed(bucket):
    whole = open_storage(f"s3://{bucket}")
    for key in ("train/0", "train2/0", "train"):
        whole.write(key, key.encode())
    assert keys(open_storage(f"s3://{bucket}/train")) == ["0"]
    assert keys(whole, "train/") == ["train/0"]
    assert keys(whole, "train") == ["train", "train/0", "train2/0"]


def test_more_objects_than_one_answer_lists(bucket):
    storage = open_storage(f"s3://{bucket}/many")
    expected = [f"{number:04}" for number in range(1003)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: storage.write(key, key.encode()), reversed(expected)))
    assert keys(storage) == expected
    assert keys(storage, "100") == ["1000", "1001", "1002"]


def test_a_staged_file_is_the_object_when_the_block_ends(bucket, scratch):
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", b"old")
    with storage.stage("x") as staged:
        staged.path.write_bytes(b"half")
        assert staged.path.parent == scratch
        assert storage.read("x") == b"old"
        staged.path.write_bytes(b"whole")
        assert staged.sha256 == sha256_hex(b"whole")
    assert storage.read("x") == b"whole"
    assert not staged.path.exists()


@pytest.mark.usefixtures("scratch")
def test_a_stage_that_raises_leaves_the_old_object(bucket, client):
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", b"old")

    def fail(key):
        with storage.stage(key) as staged:
            staged.path.write_bytes(b"half")
            raise RuntimeError("stop")

    for key in ("x", "y"):
        with pytest.raises(RuntimeError, match="stop"):
            fail(key)
    assert [found[:2] for found in storage.list()] == [("x", 3)]
    assert storage.read("x") == b"old"
    assert unfinished_uploads(client, bucket) == []


def test_write_new_never_replaces(bucket):
    storage = open_storage(f"s3://{bucket}/data")
    storage.write_new("manifest.json", b"first")
    for other in (b"other", b"second"):  # of the same size, and of another
        with pytest.raises(FileExistsError, match=f"s3://{bucket}/data/manifest.json"):
            storage.write_new("manifest.json", other)
    assert storage.read("manifest.json") == b"first"


def test_of_writers_at_the_same_moment_one_wins(bucket):
    def write(number: int) -> int | None:
        storage = open_storage(f"s3://{bucket}/data")
        assert storage.list() == []
        start.wait()
        try:
            storage.write_new("x", b"%d" % number)
        except FileExistsError:
            return None
        return number

    start = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        (winner,) = (number for number in pool.map(write, range(4)) if number is not None)
    assert open_storage(f"s3://{bucket}/data").read("x") == b"%d" % winner


def test_write_new_whose_answer_got_lost_has_succeeded(moto, bucket, monkeypatch):
    with faulty(moto, every=2, sequence=[Fault.LOST]) as proxy:
        use_server(monkeypatch, proxy.server)
        storage = open_storage(f"s3://{bucket}/data")
        assert storage.list() == []
        storage.write_new("x", b"mine")  # its put is the fourth request
        assert proxy.faults[Fault.LOST] >= 1
        with pytest.raises(FileExistsError):
            storage.write_new("x", b"else")
    use_server(monkeypatch, moto)
    assert open_storage(f"s3://{bucket}/data").read("x") == b"mine"


@pytest.mark.usefixtures("scratch", "small_parts")
def test_large_files_go_in_parts(bucket, client):
    storage = open_storage(f"s3://{bucket}/data")
    content = noise(11 * MEGABYTE)
    with storage.stage("train/0") as staged:
        staged.path.write_bytes(content)
    assert [found[:2] for found in storage.list()] == [("train/0", len(content))]
    assert client.head_object(Bucket=bucket, Key="data/train/0")["ETag"].endswith('-3"')
    assert storage.read("train/0") == content
    assert unfinished_uploads(client, bucket) == []


@pytest.mark.usefixtures("scratch", "small_parts", "quick_retries")
def test_large_files_through_faults(moto, bucket, client, monkeypatch):
    content = noise(11 * MEGABYTE)
    with faulty(moto) as proxy:
        use_server(monkeypatch, proxy.server)
        storage = open_storage(f"s3://{bucket}/data")
        for key in ("0", "1"):
            with storage.stage(key) as staged:
                staged.path.write_bytes(content)
            assert storage.read(key) == content
        assert set(proxy.faults) == set(USUAL_FAULTS)
    for key in ("0", "1"):
        assert client.head_object(Bucket=bucket, Key=f"data/{key}")["ETag"].endswith('-3"')
    assert unfinished_uploads(client, bucket) == []


@pytest.mark.usefixtures("scratch", "small_parts")
def test_an_upload_that_fails_for_good_leaves_nothing(bucket, client, monkeypatch):
    storage = open_storage(f"s3://{bucket}/data")
    assert storage.list() == []

    def fail():
        with storage.stage("x") as staged:
            staged.path.write_bytes(noise(11 * MEGABYTE))
            client.delete_bucket(Bucket=bucket)

    with pytest.raises(UserError, match=f"s3://{bucket}/data/x: no such bucket"):
        fail()
    client.create_bucket(Bucket=bucket)
    assert storage.list() == []


def test_unfinished_uploads_below_the_prefix_are_aborted(bucket, client):
    for key in ("data/x", "data/deep/y", "data2/x", "data", "other"):
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"part")
    client.create_multipart_upload(Bucket=bucket, Key="data/x")
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("whole", b"stays")
    storage.delete_partial()
    assert sorted(unfinished_uploads(client, bucket)) == ["data", "data2/x", "other"]
    assert keys(storage) == ["whole"]


def test_bodies_that_break_off_are_taken_up_there(moto, bucket, monkeypatch):
    storage = open_storage(f"s3://{bucket}/data")
    contents = {f"{size}": noise(size, size) for size in (1, 1000, MEGABYTE, 5 * MEGABYTE + 7)}
    for key, content in contents.items():
        storage.write(key, content)
    with faulty(moto, every=2, sequence=[Fault.CUT]) as proxy:
        use_server(monkeypatch, proxy.server)
        storage = open_storage(f"s3://{bucket}/data")
        for key, content in contents.items():
            assert storage.read(key) == content
            assert b"".join(storage.stream(key)) == content
        assert proxy.faults[Fault.CUT] >= len(contents)


def test_an_object_that_is_replaced_while_it_is_read_is_not_spliced(
    moto, bucket, client, monkeypatch
):
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", bytes(8 * MEGABYTE))
    with faulty(moto, every=2, sequence=[Fault.CUT]) as proxy:
        use_server(monkeypatch, proxy.server)
        assert keys(storage) == ["x"]
        blocks = storage.stream("x")  # the second request
        assert next(blocks) == bytes(MEGABYTE)
        client.put_object(Bucket=bucket, Key="data/x", Body=b"\1" * 8 * MEGABYTE)
        with pytest.raises(JobFailedError, match=f"s3://{bucket}/data/x: was replaced while"):
            list(blocks)
        assert proxy.faults[Fault.CUT] == 1


@pytest.mark.usefixtures("scratch", "quick_retries")
def test_every_third_call_fails_and_everything_is_right(moto, bucket, client, monkeypatch):
    contents = {f"{number:02}": noise(1000 * number, number) for number in range(8)}
    with faulty(moto, every=3) as proxy:
        use_server(monkeypatch, proxy.server)
        storage = open_storage(f"s3://{bucket}/data")
        for number, (key, content) in enumerate(contents.items()):
            if number % 3 == 0:
                storage.write(key, content)
            elif number % 3 == 1:
                storage.write_new(key, content)
            else:
                with storage.stage(key) as staged:
                    staged.path.write_bytes(content)
        assert [found[:2] for found in storage.list()] == [
            (key, len(content)) for key, content in contents.items()
        ]
        for key, content in contents.items():
            assert storage.size(key) == len(content)
            assert storage.read(key) == content
        with pytest.raises(FileExistsError):
            storage.write_new("00", b"other")
        for key in list(contents)[:4]:
            storage.delete(key)
        storage.delete_partial()
        assert keys(storage) == list(contents)[4:]
        assert set(proxy.faults) == set(USUAL_FAULTS)
        assert sum(proxy.faults.values()) >= proxy.requests // 4
    found = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["ETag"] for item in found] == [
        f'"{hashlib.md5(content).hexdigest()}"' for content in list(contents.values())[4:]
    ]


def test_a_storage_travels_to_workers(bucket):
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", b"1")  # opens connections, which do not travel
    sent = pickle.loads(pickle.dumps(storage))
    assert sent.uri == storage.uri
    assert sent.read("x") == b"1"


def test_uris_that_name_no_bucket():
    for uri in ("s3://", "s3:///prefix"):
        with pytest.raises(UserError, match=f"^{uri}: names no bucket"):
            open_storage(uri)


# What goes wrong, in one line that names the server and keeps every secret.

ACCESS_KEY = "AKIAUNSPOKENUNSPOKEN"
SECRET_KEY = "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"
SESSION_TOKEN = "unspoken-session-token"
PASSWORD = "unspoken-password"
SECRETS = (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, PASSWORD)


@pytest.fixture
def secrets(bucket, monkeypatch):
    use_environment(
        monkeypatch,
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_SESSION_TOKEN=SESSION_TOKEN,
    )


def use_endpoint(monkeypatch, url: str) -> None:
    """Leads to a server by a URL that holds a password, as some tools want it."""
    url = url.replace("://", f"://{ACCESS_KEY}:{PASSWORD}@")
    use_environment(monkeypatch, AWS_ENDPOINT_URL=url)


def failure(kind: type[Exception], action, *parts: str) -> str:
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    assert text.count("\n") == 0
    for part in parts:
        assert part in text
    for secret in SECRETS:
        assert secret not in text
    return text


def actions(uri: str):
    """Every way to meet a storage for the first time."""

    def stage():
        with open_storage(uri).stage("x") as staged:
            staged.path.write_bytes(b"1")

    return {
        "list": lambda: open_storage(uri).list(),
        "size": lambda: open_storage(uri).size("x"),
        "read": lambda: open_storage(uri).read("x"),
        "write": lambda: open_storage(uri).write("x", b"1"),
        "write_new": lambda: open_storage(uri).write_new("x", b"1"),
        "stage": stage,
        "delete": lambda: open_storage(uri).delete("x"),
        "delete_partial": lambda: open_storage(uri).delete_partial(),
    }


def refusing(status: int, code: str, message: str, **headers: str):
    """A server that gives the same error to everything; yields its URL."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return answering(status, body.encode(), **headers)


def test_a_missing_bucket(moto, bucket, secrets, monkeypatch):
    use_endpoint(monkeypatch, moto.endpoint)
    texts = {
        failure(UserError, action, f"no such bucket at {moto.endpoint}; create it")
        for action in actions("s3://no-such-bucket/data").values()
    }
    assert all(text.startswith("s3://no-such-bucket/data") for text in texts)


def test_no_valid_bucket_name(secrets):
    failure(UserError, actions("s3://ü/data")["list"], "s3://ü/data: is no valid bucket")
    failure(UserError, actions("s3://a b/data")["list"], "s3://a b/data: is no valid bucket")


def test_no_credentials(moto, bucket, monkeypatch):
    use_environment(monkeypatch, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    uri = f"s3://{bucket}/data"
    message = f"no usable AWS credentials for {moto.endpoint} (NoCredentialsError); set AWS_ACCESS"
    failure(UserError, actions(uri)["list"], uri, message)
    use_environment(monkeypatch, AWS_ACCESS_KEY_ID=ACCESS_KEY)  # and no secret
    failure(UserError, actions(uri)["list"], uri, "no usable AWS credentials")
    use_environment(monkeypatch, AWS_ACCESS_KEY_ID=None, AWS_PROFILE="nobody")
    failure(UserError, actions(uri)["list"], uri, "no usable AWS credentials", "ProfileNotFound")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "InvalidAccessKeyId", "refuses the AWS credentials (InvalidAccessKeyId); renew"),
        (403, "SignatureDoesNotMatch", "refuses the AWS credentials (SignatureDoesNotMatch)"),
        (400, "ExpiredToken", "refuses the AWS credentials (ExpiredToken); renew them"),
        (400, "InvalidToken", "refuses the AWS credentials (InvalidToken)"),
        (403, "AccessDenied", "grant these credentials s3:ListBucket, GetObject"),
        (403, "QuotaExceeded", "(QuotaExceeded); free some or raise the limit"),
        (400, "ServiceQuotaExceededException", "Exception); free some or raise the limit"),
        (400, "XMinioAdminBucketQuotaExceeded", "BucketQuotaExceeded); free some or raise"),
        (507, "XMinioStorageFull", "(XMinioStorageFull); free some or raise the limit"),
        (507, "InsufficientStorage", "(InsufficientStorage); free some or raise the limit"),
        (501, "NotImplemented", "(NotImplemented: It is ***, ***, ***); correct the URI and the"),
        (405, "MethodNotAllowed", "(MethodNotAllowed: It is ***, ***, ***); correct the URI and"),
        (400, "Whatever", "(Whatever: It is ***, ***, ***); correct the URI and the AWS settings"),
        (403, "RequestTimeTooSkewed", "says that this machine's clock is wrong; set it"),
    ],
)
def test_what_a_server_refuses(secrets, status, code, message, monkeypatch):
    with refusing(status, code, f"It is {ACCESS_KEY}, {SECRET_KEY}, {SESSION_TOKEN}") as url:
        use_endpoint(monkeypatch, url)
        for action in actions("s3://bucket/data").values():
            failure(UserError, action, "s3://bucket/data", f"{url} ", message)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (301, "PermanentRedirect"),
        (400, "AuthorizationHeaderMalformed"),
        (400, "IllegalLocationConstraintException"),
    ],
)
def test_a_bucket_of_another_region(secrets, status, code, monkeypatch):
    with refusing(status, code, ACCESS_KEY, x_amz_bucket_region="eu-north-1") as url:
        use_endpoint(monkeypatch, url)
        failure(
            UserError,
            actions("s3://bucket/data")["list"],
            "says that the bucket's region is eu-north-1; set AWS_DEFAULT_REGION to it",
        )


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_keeps_failing(secrets, monkeypatch):
    with refusing(500, "InternalError", f"{ACCESS_KEY} again") as url:
        use_endpoint(monkeypatch, url)
        failure(JobFailedError, actions("s3://bucket/data")["list"], f"{url} keeps failing")


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_hangs_up(moto, bucket, secrets, monkeypatch):
    with faulty(moto, every=1, sequence=[Fault.RESET]) as proxy:
        use_endpoint(monkeypatch, proxy.server.endpoint)
        uri = f"s3://{bucket}/data"
        failure(JobFailedError, actions(uri)["list"], uri, f"{proxy.server.endpoint} keeps failing")
        assert proxy.requests == 8  # four rounds of two attempts


def test_an_endpoint_that_nobody_answers_at(secrets, monkeypatch):
    with ThreadingHTTPServer((HOST, 0), BaseHTTPRequestHandler) as server:
        url = f"http://{HOST}:{server.server_port}"  # free once the block has ended
    use_endpoint(monkeypatch, url)
    for action in actions("s3://bucket/data").values():
        failure(UserError, action, "s3://bucket/data", f"{url} cannot be reached", "AWS_ENDPOINT")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:9000", "Invalid endpoint: localhost:9000"),
        ("http://", "Invalid endpoint: http://"),
        ("http://a b", "Invalid endpoint: http://a b"),
        ("http://[::1", "Invalid IPv6 URL"),
    ],
)
def test_no_valid_endpoint(url, message, secrets, monkeypatch):
    for use in (
        lambda url: use_environment(monkeypatch, AWS_ENDPOINT_URL=url),
        lambda url: use_endpoint(monkeypatch, url),
    ):
        use(url)
        failure(UserError, actions("s3://bucket/data")["list"], message, "; correct AWS_ENDPOINT")


def test_a_server_that_went_away_after_an_answer_may_come_back():
    """Before the first answer the address is probably wrong, afterwards the server restarts."""
    error = EndpointConnectionError(endpoint_url="http://host")
    assert isinstance(explain(error, "s3://bucket", "http://host"), UserError)
    assert isinstance(explain(error, "s3://bucket", "http://host", reached=True), JobFailedError)


def test_an_outage_is_no_mistake_of_the_user_once_the_server_was_reached(
    bucket, monkeypatch, quick_retries
):
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", b"1")
    sent = pickle.dumps(storage)
    use_environment(monkeypatch, AWS_ENDPOINT_URL=f"http://{HOST}:9")
    with pytest.raises(UserError, match=f"http://{HOST}:9 cannot be reached"):
        open_storage(f"s3://{bucket}/data").list()
    with pytest.raises(JobFailedError, match="keeps failing"):
        pickle.loads(sent).list()


def test_credentials_that_come_late_are_found(moto, bucket, monkeypatch, tmp_path):
    file = tmp_path / "credentials"
    use_environment(
        monkeypatch,
        AWS_SHARED_CREDENTIALS_FILE=str(file),
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
    )
    with pytest.raises(UserError, match=f"no usable AWS credentials for {moto.endpoint} "):
        open_storage(f"s3://{bucket}/data").list()
    file.write_text(
        f"[default]\naws_access_key_id={moto.access_key}\naws_secret_access_key={moto.secret_key}\n"
    )
    assert open_storage(f"s3://{bucket}/data").list() == []


def test_uploads_of_today_may_be_alive(client, bucket, monkeypatch):
    client.create_multipart_upload(Bucket=bucket, Key="data/x")
    storage = open_storage(f"s3://{bucket}/data")
    monkeypatch.setattr("data_pipeline.platform.storage.s3._ABANDONED_AFTER", timedelta(days=36500))
    storage.delete_partial()  # the test server dates all uploads to 2010
    assert unfinished_uploads(client, bucket) == ["data/x"]


def test_a_role_and_an_endpoint_of_the_config_file(moto, bucket, monkeypatch, tmp_path):
    """As a person has them: AWS_PROFILE, a role with keys of another profile, no variable else."""
    config, keys_file = tmp_path / "config", tmp_path / "credentials"
    config.write_text(
        f"[profile base]\nregion = us-east-1\nendpoint_url = {moto.endpoint}\n"
        f"[profile ml]\nregion = us-east-1\nendpoint_url = {moto.endpoint}\n"
        "role_arn = arn:aws:iam::123456789012:role/ml\nsource_profile = base\n"
    )
    keys_file.write_text("[base]\naws_access_key_id = A\naws_secret_access_key = B\n")
    use_environment(
        monkeypatch,
        AWS_PROFILE="ml",
        AWS_CONFIG_FILE=str(config),
        AWS_SHARED_CREDENTIALS_FILE=str(keys_file),
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
        AWS_ENDPOINT_URL=None,
        AWS_DEFAULT_REGION=None,
    )
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", b"1")
    assert storage.read("x") == b"1"
    with pytest.raises(UserError, match=f"no such bucket at {moto.endpoint}; create it"):
        open_storage("s3://no-such-bucket").list()


def test_credentials_that_expire_in_mid_run(bucket, secrets, monkeypatch):
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", b"1")
    with refusing(400, "ExpiredToken", SESSION_TOKEN) as url:
        use_endpoint(monkeypatch, url)
        sent = pickle.loads(pickle.dumps(storage))
        for action in (storage.list, lambda: sent.size("x"), lambda: sent.write("y", b"2")):
            failure(UserError, action, f"{url} refuses the AWS credentials (ExpiredToken); renew")
