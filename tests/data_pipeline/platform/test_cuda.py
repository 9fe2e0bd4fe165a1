"""TensorFlow's loader finds CUDA's libraries, and a missing GPU has its reason. Needs no GPU."""

import importlib.util
import json
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from data_pipeline.platform.cuda import LIBRARIES, GpuFacts, explain_missing_gpus, gpu_facts
from tests.conftest import ROOT

TENSORFLOW = Path(importlib.util.find_spec("tensorflow").origin).parent

# Libraries of other makers, the driver's, and those that TensorFlow does not need.
NOT_PACKAGED = re.compile("Hip|Roc|Miopen|CudaDriver|Nvml|NvInfer|Nvshmem")

on_the_images_platform = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the images are for x86_64"
)


def write_stub(path: Path) -> None:
    """A shared library for 64-bit x86 that has a name and nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = b"\0" + path.name.encode() + b"\0"
    at = 64 + 3 * 56  # the dynamic section, after the headers
    strings = at + 5 * 16
    size = strings + len(names)
    content = struct.pack("<4s5B7x", b"\x7fELF", 2, 1, 1, 0, 0)
    content += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    for kind, start, length, align in (
        (1, 0, size, 4096),  # LOAD
        (2, at, 80, 8),  # DYNAMIC
        (0x6474E551, 0, 0, 16),  # GNU_STACK: not executable
    ):
        content += struct.pack("<IIQQQQQQ", kind, 6, start, start, start, length, length, align)
    # STRTAB, SYMTAB without symbols, STRSZ, SONAME, NULL
    for entry in ((5, strings), (6, strings), (10, len(names)), (14, 1), (0, 0)):
        content += struct.pack("<QQ", *entry)
    path.write_bytes(content + names)


def not_found(site: Path, *modules: str) -> dict[str, str]:
    """What TensorFlow's loader does not find in the packages of a folder, and its errors."""
    (site / "tensorflow").mkdir()
    loader = site / "tensorflow/libtensorflow_framework.so.2"
    loader.symlink_to(TENSORFLOW / loader.name)
    result = subprocess.run(
        [sys.executable, ROOT / "tests/tensorflow_loader.py", loader, *modules],
        env=os.environ | {"PYTHONPATH": f"{site}:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answers = json.loads(result.stdout.splitlines()[-1])
    assert {"Cusolver", "Cudnn", "Nccl", "MaybeTryDlopenGPULibraries"} < answers.keys()
    return {
        name: error for name, error in answers.items() if error and not NOT_PACKAGED.search(name)
    }


@on_the_images_platform
@pytest.mark.parametrize("folder", ["its own", "one for all"])
def test_tensorflow_finds_the_libraries_of_packages(folder, tmp_path):
    """Stubs in the folders of pip's packages, and in one where TensorFlow does not search."""
    for name in LIBRARIES:
        own = re.match("lib([a-zA-Z]+)", name)[1].lower().removesuffix("lt")
        own = {"cudart": "cuda_runtime", "cupti": "cuda_cupti"}.get(own, own)
        write_stub(tmp_path / "nvidia" / (own if folder == "its own" else "cu") / "lib" / name)
    assert not_found(tmp_path, "srgan") == {}


@on_the_images_platform
@pytest.mark.gpu_image
def test_tensorflow_finds_the_libraries_of_the_gpu_image():
    entries = re.split(r"\n(?=\S)", (ROOT / "constraints-gpu.txt").read_text())
    packages = [entry for entry in entries if entry.startswith("nvidia-")]
    assert len(packages) > 8
    with tempfile.TemporaryDirectory() as folder:  # pytest would keep the gigabytes
        site, file = Path(folder, "site"), Path(folder, "nvidia.txt")
        file.write_text("\n".join(packages))
        install = ["pip", "install", "--require-hashes", "--no-deps", "--no-cache-dir"]
        subprocess.run([sys.executable, "-m", *install, "--target", site, "-r", file], check=True)
        assert not_found(site, "srgan") == {}


WHOLE = GpuFacts(
    visible="0",
    device_files=["/dev/nvidia0"],
    kernel_driver="560.35.03",
    driver_error=None,
    init_error=None,
    driver_cuda=(12, 6),
    devices=1,
    library_errors={},
)
NO_FILE = "libcuda.so.1: cannot open shared object file: No such file or directory"
SOLVER = "libcusolver.so.11: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"visible": ""}, "CUDA_VISIBLE_DEVICES='' hides them; unset it"),
        ({"visible": "-1", "devices": 0}, "CUDA_VISIBLE_DEVICES='-1' hides them; unset it"),
        (
            {"driver_error": NO_FILE, "kernel_driver": None},
            f"no NVIDIA driver runs there ({NO_FILE}); install a driver for CUDA 12.5 or later",
        ),
        (
            {"driver_error": NO_FILE},
            f"driver 560.35.03 runs there, but its library does not load ({NO_FILE}); start",
        ),
        ({"device_files": []}, "there is no device file /dev/nvidia0; start the container with"),
        (
            {"init_error": "error 803, system has unsupported display driver", "devices": 0},
            "CUDA does not start (cuInit: error 803, system has unsupported display driver; driver "
            "560.35.03, CUDA 12.6); restart the node, or install",
        ),
        (
            {"driver_cuda": (11, 4), "kernel_driver": "470.57.02"},
            "driver 470.57.02 serves CUDA 11.4 only; install a driver for CUDA 12.5 or later",
        ),
        (
            {"library_errors": {"libcusolver.so.11": SOLVER}},
            f"libraries do not load ({SOLVER}); install the versions of constraints-gpu.txt",
        ),
        (
            {"library_errors": {"libnccl.so.2": "no reason"}, "visible": "0,1"},
            "with CUDA_VISIBLE_DEVICES=0,1 CUDA shows 1 of /dev/nvidia0; start Ray there",
        ),
        ({"devices": 2}, "driver and libraries are in order, TensorFlow itself refuses"),
    ],
)
def test_a_missing_gpu_has_its_reason(changes, reason):
    text = explain_missing_gpus(WHOLE._replace(**changes), wanted=2, needed_cuda="12.5.1")
    assert text.startswith(reason)
    without_cuda = explain_missing_gpus(WHOLE, wanted=2, needed_cuda=None)
    assert without_cuda.startswith("this TensorFlow is built without CUDA")


def test_the_facts_of_a_node_without_a_driver(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    facts = gpu_facts()
    if facts.driver_error is None:
        pytest.skip("this machine has a driver")
    assert facts.visible == "3"
    assert "libcuda.so.1" in facts.driver_error
    assert facts.devices == 0
