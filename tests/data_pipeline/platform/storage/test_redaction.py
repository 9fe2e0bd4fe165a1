"""What servers say is quoted without credentials, and with everything else."""

import pytest

from data_pipeline.platform.storage.redaction import redacted

KEY = "AKIAABCDEFGHIJKLMNOP"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # as in AWS's documents
TOKEN = "IQoJb3JpZ2luX2VjE//" + "Ab1/" * 60 + "="


@pytest.mark.parametrize(
    "value", ["minio-admin", "plain words", "a/b+c=d/e", "two.dots.[x]", TOKEN]
)
def test_the_credentials_in_use_are_left_out(value):
    encoded = value.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D")
    assert redacted(f"key {value}, x{value}x", [value]) == "key ***, x***x"
    assert redacted(f"of {encoded}&x", [value]) == "of ***&x"


def test_short_credentials_are_no_parts_of_words():
    assert redacted("test: latest tests/test", ["test", ""]) == "***: latest tests/***"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{KEY} and ASIA2345ABCD6789WXYZ", "*** and ***"),
        (f"the secret {SECRET}.", "the secret ***."),
        (f"the token {TOKEN}, which", "the token ***, which"),
        (
            f"/b/k?X-Amz-Credential={KEY}%2F2026%2Fus-east-1&X-Amz-Date=2026&X-Amz-Signature=0a1b"
            "&X-Amz-Security-Token=x%2Fy",
            "/b/k?X-Amz-Credential=***&X-Amz-Date=2026&X-Amz-Signature=***"
            "&X-Amz-Security-Token=***",
        ),
        ("Credential=me/2026/s3, Signature=0a1b", "Credential=***, Signature=***"),
        ("AWSAccessKeyId=me&Expires=1", "AWSAccessKeyId=***&Expires=1"),
        ("at http://me:a/b@gate:3128/x", "at http://gate:3128/x"),
        ("at http://me@gate:3128/x", "at http://gate:3128/x"),
    ],
)
def test_what_is_a_credential_by_its_form_is_left_out(text, left):
    assert redacted(text, ()) == left


@pytest.mark.parametrize(
    "text",
    [
        "path /experiments/srganrun20261126final/x",
        "/Users/Anna/Experiments/SRGAN2026/Photos/epoch25/samples",
        "the bucket my-training-data-2026-eu-central-1 at ec2-54-23-1-100.compute",
        "request tx00000f1234567890abcd",
        "a 3f786850e387550fdab836ed7e6dc881de23001b sha256 " + "0a" * 32,
        "http://host:9000/bucket/image@2x.png and s3://bucket/image@2x.png",
        "User: arn:aws:sts::123456789012:assumed-role/TrainingNodes2026/i-0abc is not authorized",
        "Header 'x-amz-checksum-crc32' with value 'AAAAAA==' not implemented",
    ],
)
def test_paths_names_and_hashes_stay(text):
    assert redacted(text, ()) == text


def test_it_is_one_short_line():
    assert redacted(" a\n b " + "c" * 400, ()) == "a b " + "c" * 296
