"""What servers other than AWS, proxies and settings of boto3 do to the S3 storage."""

import datetime
import errno
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError, ProxyConnectionError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.storage import UnusableStorageError, open_storage
from data_pipeline.platform.storage import s3 as s3_module
from data_pipeline.platform.storage import s3_connection as connection_module
from data_pipeline.platform.storage.s3_errors import explain
from srgan.training.failures import describe
from srgan.training.lease import hold_lease
from tests.conftest import s3_client, use_environment, use_server
from tests.s3_servers import HOST, answering, faulty

MEGABYTE = 1 << 20
NEVER = 1 << 60


@pytest.fixture
def proxy(moto, bucket, monkeypatch):
    """A server with quirks, to be set: `proxy.refuses`."""
    with faulty(moto, every=NEVER) as front:
        use_server(monkeypatch, front.server)
        yield front


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The storage's pauses, which take no time."""
    taken: list[float] = []
    monkeypatch.setattr(s3_module.time, "sleep", taken.append)
    return taken


def without_conditions(answer):
    """A server that answers so to If-None-Match, or ignores it."""

    def refuses(method, headers):
        if "If-None-Match" not in headers:
            return None
        del headers["If-None-Match"]
        return answer

    return refuses


def without_checksums(status=400, code="InvalidArgument"):
    def refuses(method, headers):
        names = [name.lower() for name in headers]
        known = ("x-amz-checksum-", "x-amz-sdk-checksum", "x-amz-trailer")
        return (status, code) if any(name.startswith(known) for name in names) else None

    return refuses


ANSWERS = [(501, "NotImplemented"), (400, "InvalidArgument"), (405, "MethodNotAllowed"), None]


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_server_without_conditions_keeps_what_is_there(proxy, bucket, pauses, answer):
    proxy.refuses = without_conditions(answer)
    storage = open_storage(f"s3://{bucket}/data")
    storage.write_new("x", b"first")
    assert pauses == [s3_module._SETTLING_SECONDS]
    with pytest.raises(FileExistsError, match=f"s3://{bucket}/data/x"):
        storage.write_new("x", b"other")
    assert storage.read("x") == b"first"


@pytest.mark.parametrize("answer", [ANSWERS[0], None])
def test_of_writers_at_the_same_moment_one_wins_without_conditions(
    proxy, bucket, monkeypatch, answer
):
    proxy.refuses = without_conditions(answer)
    both = threading.Barrier(2)
    looked = open_storage(f"s3://{bucket}/data")
    looked.list()
    size = looked.size

    def look(key):
        found = size(key)
        both.wait()  # neither has written yet
        return found

    monkeypatch.setattr(s3_module.time, "sleep", lambda _: both.wait())  # both have written
    monkeypatch.setattr(s3_module.S3Storage, "size", lambda _, key: look(key))

    def write(data: bytes) -> bool:
        try:
            open_storage(f"s3://{bucket}/data").write_new("x", data)
        except FileExistsError:
            return False
        return True

    contents = [b"one", b"two"]
    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(write, contents))
    assert sorted(won) == [False, True]
    assert looked.read("x") == contents[won.index(True)]


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("answer", [ANSWERS[0], None])
def test_one_trainer_at_a_time_without_conditions(proxy, bucket, answer):
    proxy.refuses = without_conditions(answer)
    run = open_storage(f"s3://{bucket}/run")
    with hold_lease(run) as lease:
        with pytest.raises(UserError, match="is being trained by process"), hold_lease(run):
            pass
        lease.check()
    assert run.list() == []


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(
    "refusal",
    [
        (400, "InvalidArgument"),
        (501, "NotImplemented"),
        (411, "MissingContentLength"),
        (400, "XAmzContentSHA256Mismatch"),
    ],
)
def test_a_server_without_checksums_gets_md5(proxy, moto, bucket, monkeypatch, tmp_path, refusal):
    monkeypatch.setenv("SRGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(s3_module, "_MULTIPART_THRESHOLD", 6 * MEGABYTE)
    monkeypatch.setattr(s3_module, "_PART_BYTES", 5 * MEGABYTE)
    proxy.refuses = without_checksums(*refusal)
    use_environment(monkeypatch)
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", b"small")
    assert "content-md5" in proxy.headers[-1]
    before = len(proxy.headers)
    storage.write_new("new", b"new")
    with storage.stage("large") as staged:
        staged.path.write_bytes(bytes(11 * MEGABYTE))
    assert storage.read("large") == bytes(11 * MEGABYTE)
    assert {one.key: one.size for one in storage.list()} == {
        "large": 11 * MEGABYTE,
        "new": 3,
        "x": 5,
    }
    later = [name for headers in proxy.headers[before:] for name in headers]
    assert not [name for name in later if name.startswith("x-amz-checksum-")]
    etag = s3_client(moto).head_object(Bucket=bucket, Key="data/large")["ETag"]
    assert etag.endswith('-3"')


def test_boto3s_checksum_settings_hold(proxy, bucket, monkeypatch):
    for value, digest in (("when_required", "content-md5"), (None, "x-amz-checksum-sha256")):
        use_environment(
            monkeypatch,
            AWS_REQUEST_CHECKSUM_CALCULATION=value,
            AWS_RESPONSE_CHECKSUM_VALIDATION=value,
        )
        open_storage(f"s3://{bucket}/data").write("x", b"1")
        sent = proxy.headers[-1]
        assert [name for name in ("content-md5", "x-amz-checksum-sha256") if name in sent] == [
            digest
        ]


def test_a_full_scratch_disk_is_told_with_its_path(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("SRGAN_CACHE", str(tmp_path))

    def fill():
        with open_storage(f"s3://{bucket}/data").stage("x"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UnusableStorageError) as error:
        fill()
    assert str(error.value).startswith(f"{tmp_path}/scratch/")
    assert str(error.value).endswith(
        f" on {socket.gethostname()}: cannot be written: No space left on device; make room, or "
        "set SRGAN_CACHE to another disk"
    )


@contextmanager
def serving(answer) -> Iterator[str]:
    """A server of which every connection is given to a function; yields its URL."""
    with socket.create_server((HOST, 0), backlog=64) as server:
        kept = []

        def accept():
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return
                answer(kept[-1])

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://{HOST}:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in kept:
                connection.close()


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: x\r\n\r\nhalf"


@pytest.fixture
def impatient(monkeypatch):
    """A silent server is given up soon, after one round of attempts as with the real times."""
    silence = connection_module._SECONDS_TO_ANSWER * connection_module._ATTEMPTS
    assert silence > connection_module._PATIENCE_SECONDS
    assert silence + connection_module._SECONDS_TO_ANSWER <= 110  # told in two minutes
    monkeypatch.setattr(connection_module, "_SECONDS_TO_ANSWER", 0.2)
    monkeypatch.setattr(connection_module, "_PATIENCE_SECONDS", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("begins", "reached", "kind", "says"),
    [
        (
            b"",
            False,
            UnusableStorageError,
            "takes the connection and does not answer (ReadTimeoutError); check AWS_ENDPOINT_URL "
            "and the network, or use another server",
        ),
        (b"", True, JobFailedError, 'keeps failing: Read timeout on endpoint URL: "'),
        (HALF, False, JobFailedError, "keeps failing: Read timeout on endpoint URL: "),
    ],
)
def test_a_server_that_stops_answering_is_told(
    bucket, monkeypatch, pauses, begins, reached, kind, says
):
    connections = []

    def answer(connection):
        connections.append(connection)
        if begins:
            connection.recv(1 << 16)
            connection.sendall(begins)

    with serving(answer) as url:
        use_environment(monkeypatch, AWS_ENDPOINT_URL=url)
        s3_module._CONNECTION.answered = reached
        with pytest.raises(kind) as error:
            open_storage(f"s3://{bucket}/data").read("x")
    assert str(error.value).startswith(f"s3://{bucket}/data/x: {url} {says}")
    assert len(connections) == 2
    assert len(pauses) <= 1  # no further rounds
    assert describe(error.value).is_final == (kind is UnusableStorageError)


def test_a_slow_key_fails_alone_and_may_be_tried_again(proxy, bucket, monkeypatch, pauses):
    answers = threading.Event()
    proxy.denies = lambda _, path: "slow" in path and not answers.wait()
    monkeypatch.setattr(connection_module, "_ATTEMPTS", 1)
    monkeypatch.setattr(connection_module, "_SECONDS_TO_ANSWER", 2)
    use_environment(monkeypatch)
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(connection_module, "_PAUSES", ())
        with pytest.raises(JobFailedError, match=f"^s3://{bucket}/data/slow: .* keeps failing"):
            storage.write("slow", b"2")
    assert storage.read("x") == b"1"
    answers.set()
    storage.write("slow", b"2")
    assert storage.read("slow") == b"2"


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_page_between_answers_passes_and_changes_nothing(proxy, bucket, pauses, method):
    storage = open_storage(f"s3://{bucket}/data")
    storage.write("x", b"1")
    pages = iter([(403, "")])
    proxy.refuses = lambda asked, _: next(pages, None) if asked == method else None
    storage.write_new("y", b"2")  # no page makes it do without If-None-Match
    assert storage.read("x") == b"1"
    storage.write("x", b"3")
    assert "x-amz-checksum-sha256" in proxy.headers[-1]
    assert pauses == [1.0]


def test_a_refusal_for_another_reason_leaves_the_checksums_on(proxy, bucket):
    storage = open_storage(f"s3://{bucket}/data")
    refusals = iter([(400, "EntityTooLarge")])
    proxy.refuses = lambda *_: next(refusals, None)
    with pytest.raises(UnusableStorageError, match=r"refuses PutObject \(EntityTooLarge: Spoiled"):
        storage.write("x", b"1")
    storage.write("x", b"1")
    assert "x-amz-checksum-sha256" in proxy.headers[-1]


@pytest.mark.parametrize(
    ("status", "page"),
    [(403, b"<html><br>Blocked</html>"), (404, b"<html>Blocked</html>"), (407, b"")],
)
def test_the_page_of_a_proxy_is_no_missing_right(bucket, monkeypatch, status, page):
    with answering(status, page) as url:
        use_environment(monkeypatch, AWS_ENDPOINT_URL=url)
        storage = open_storage(f"s3://{bucket}/data")
        for action in (storage.list, lambda: storage.read("x"), lambda: storage.write("x", b"1")):
            with pytest.raises(UnusableStorageError) as error:
                action()
            text = str(error.value)
            assert text.startswith(f"s3://{bucket}/data")
            assert f"{url} answers {status} without an S3 error, as a proxy" in text
            assert text.endswith("check AWS_ENDPOINT_URL, HTTP_PROXY, HTTPS_PROXY and NO_PROXY")


def client_error(
    status: int, code: str, operation: str = "PutObject", message: str = ""
) -> Exception:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {}}
    error = {"Code": code, "Message": message}
    return ClientError({"Error": error, "ResponseMetadata": metadata}, operation)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (503, "SlowDown"),
        (503, "503"),  # of a load balancer
        (400, "RequestTimeout"),
        (429, "TooManyRequests"),
        (429, "RateQuotaExceeded"),
        (503, "RequestQuotaExceeded"),
        (400, "RequestThrottled"),
        (400, "RequestLimitExceeded"),
        (400, "XAmzContentSHA256Mismatch"),
        (409, "BucketNotReady"),
        (404, "NoSuchUpload"),
    ],
)
def test_what_may_pass_is_tried_again(status, code):
    error = explain(client_error(status, code), "s3://b/x", "http://host", reached=True)
    assert isinstance(error, JobFailedError)
    assert str(error) == f"s3://b/x: http://host keeps failing: PutObject gives {code}"


def test_a_role_that_may_not_be_assumed_is_no_right_on_the_bucket():
    error = client_error(403, "AccessDenied", "AssumeRole", "User AKIAAAAAAAAAAAAAAAA1 may not")
    text = str(explain(error, "s3://b/x", "http://host"))
    assert text == (
        "s3://b/x: no leave to assume the role (AccessDenied: User *** may not); correct role_arn "
        "or the role's trust"
    )


def test_a_proxy_that_refuses_is_named_without_its_password():
    error = ProxyConnectionError(
        proxy_url="http://me:secret@gate:3128", error="Tunnel connection failed: 407 Required"
    )
    for reached in (False, True):
        told = explain(error, "s3://b/x", "https://s3.amazonaws.com", reached=reached)
        assert isinstance(told, UnusableStorageError)
        assert "the proxy http://gate:3128 refuses (ProxyConnectionError: Tunnel" in str(told)
        assert "secret" not in str(told)


@pytest.fixture
def certificate(tmp_path):
    """Of this host, by itself; the folder is the working one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.pem").write_bytes(made.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    return tls


def test_a_certificate_of_ones_own(moto, bucket, certificate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with faulty(moto, every=NEVER, tls=certificate) as proxy:
        url = proxy.server.endpoint
        use_environment(monkeypatch, AWS_ENDPOINT_URL=url)
        for bundle in (None, "none.pem"):
            use_environment(monkeypatch, AWS_CA_BUNDLE=bundle)
            with pytest.raises(UnusableStorageError) as error:
                open_storage(f"s3://{bucket}/data").list()
            assert f"{url} cannot be trusted (" in str(error.value)
            assert str(error.value).endswith(
                "set AWS_CA_BUNDLE to the file with your CA's certificate"
            )
        use_environment(monkeypatch, AWS_CA_BUNDLE="ca.pem")
        storage = open_storage(f"s3://{bucket}/data")
        storage.write("x", b"1")
        assert storage.read("x") == b"1"
        # Processes that this one starts work elsewhere.
        assert os.environ["AWS_CA_BUNDLE"] == str(tmp_path / "ca.pem")


def test_settings_that_boto3_refuses(bucket, monkeypatch):
    use_environment(monkeypatch, AWS_REQUEST_CHECKSUM_CALCULATION="sometimes")
    with pytest.raises(UnusableStorageError, match=r"sometimes.*; correct the AWS settings in the"):
        open_storage(f"s3://{bucket}/data").list()


@pytest.mark.parametrize(
    "name", ["base#2", "base?x=1", "a b+c%20", "a&b=c;d", 'it\'s "q"', "a*{b}"]
)
def test_odd_characters_are_part_of_the_key(bucket, moto, name):
    base, odd = open_storage(f"s3://{bucket}/base"), open_storage(f"s3://{bucket}/{name}")
    base.write("checkpoints/1", b"base")
    odd.write("checkpoints/1", b"odd")
    odd.write("checkpoints/2", b"2")
    listed = s3_client(moto).list_objects_v2(Bucket=bucket)["Contents"]
    assert {one["Key"] for one in listed} == {
        "base/checkpoints/1",
        f"{name}/checkpoints/1",
        f"{name}/checkpoints/2",
    }
    assert [one.key for one in odd.list()] == ["checkpoints/1", "checkpoints/2"]
    odd.delete("checkpoints/2")
    odd.delete_folder("checkpoints")
    assert odd.list() == []
    assert base.read("checkpoints/1") == b"base"


@pytest.mark.parametrize("name", ["../base", "a/./b", "new\nline", "bell\a"])
def test_prefixes_that_servers_take_for_others_are_refused(bucket, name):
    with pytest.raises(UserError) as error:
        open_storage(f"s3://{bucket}/{name}")
    assert str(error.value).startswith(f"{f's3://{bucket}/{name}'!r}: a part of it is . or ..")
    assert "\n" not in str(error.value)
