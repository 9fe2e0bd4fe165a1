import io
import mmap

import numpy as np
import pytest

from data_pipeline.platform.hashing import file_sha256, sha256_hex, stream_sha256

# FIPS 180-2, appendix B: one block, and a million times "a".
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
MILLION = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"


@pytest.mark.parametrize("size", [100, 999, 1_000_000])
def test_bytes_and_a_stream_of_blocks(size):
    data = b"a" * 1_000_000
    copy = io.BytesIO()
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    assert stream_sha256(blocks, copy) == stream_sha256(blocks) == (MILLION, len(data))
    assert copy.getvalue() == data
    assert sha256_hex(b"abc") == sha256_hex(memoryview(b"abc")) == ABC
    assert stream_sha256([]) == (sha256_hex(b""), 0)


def test_a_file_of_several_blocks(tmp_path):
    data = np.random.default_rng(0).bytes((2 << 20) + 1)
    (tmp_path / "x").write_bytes(data)
    assert file_sha256(tmp_path / "x") == sha256_hex(data)
    with (tmp_path / "x").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert sha256_hex(mapped) == sha256_hex(data)
