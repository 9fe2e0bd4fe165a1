"""NVIDIA's libraries for TensorFlow: loads them, and finds out why there is no GPU."""

import ctypes
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# Without any of these TensorFlow registers no GPU.
_NEEDED = (
    "libcudart.so.12",
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcufft.so.11",
    "libcusolver.so.11",
    "libcusparse.so.12",
    "libcudnn.so.9",
)

# All of CUDA's libraries that TensorFlow opens by name, and pip's packages have.
LIBRARIES = (*_NEEDED, "libnccl.so.2", "libcupti.so.12")

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"


def load_libraries() -> dict[str, str]:
    """Loads CUDA's libraries into this process: those of pip's packages, else the system's.

    TensorFlow opens them by name and searches the RUNPATH of its own library. The RUNPATH of
    TensorFlow 2.21 lacks the folder of cuSOLVER, so TensorFlow alone finds no GPU. The dynamic
    linker finds a library by its name alone once it is loaded. This opens no device.

    Returns:
        The dynamic linker's reason for each library that does not load.
    """
    packages = importlib.util.find_spec("nvidia")
    folders = packages.submodule_search_locations if packages else None
    errors = {}
    for name in LIBRARIES:
        found = [path for folder in folders or () for path in Path(folder).glob(f"*/lib/{name}")]
        try:
            ctypes.CDLL(str(found[0]) if found else name)
        except OSError as error:
            errors[name] = str(error)
    return errors


class GpuFacts(NamedTuple):
    """What a process knows of its GPUs without TensorFlow.

    Attributes:
        visible: CUDA_VISIBLE_DEVICES; None if it is not set.
        device_files: The GPUs' device files.
        kernel_driver: Version of the kernel's NVIDIA driver; None without one.
        driver_error: Why libcuda.so.1, the driver's library, does not load.
        init_error: What cuInit answers, unless success.
        driver_cuda: The newest CUDA that the driver serves, as (12, 4).
        devices: GPUs that CUDA shows.
        library_errors: As `load_libraries` returns them.
    """

    visible: str | None
    device_files: Sequence[str]
    kernel_driver: str | None
    driver_error: str | None
    init_error: str | None
    driver_cuda: tuple[int, int]
    devices: int
    library_errors: Mapping[str, str]


def gpu_facts() -> GpuFacts:
    """Asks the node, the driver and the dynamic linker. Initialises CUDA in this process."""
    version = Path("/proc/driver/nvidia/version")
    words = version.read_text().split() if version.exists() else []
    numbers = [word for word in words if word[0].isdigit() and "." in word]
    devices = sorted(Path("/dev").glob("nvidia[0-9]*")) + sorted(Path("/dev").glob("dxg"))  # WSL
    facts = GpuFacts(
        visible=os.environ.get(VISIBLE_VARIABLE),
        device_files=[str(path) for path in devices],
        kernel_driver=numbers[0] if numbers else None,
        driver_error=None,
        init_error=None,
        driver_cuda=(0, 0),
        devices=0,
        library_errors=load_libraries(),
    )
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return facts._replace(driver_error=str(error))
    number = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(number)) == 0:
        facts = facts._replace(driver_cuda=(number.value // 1000, number.value % 1000 // 10))
    if code := driver.cuInit(0):
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        reason = (text.value or b"unknown").decode()
        return facts._replace(init_error=f"error {code}, {reason}")
    driver.cuDeviceGetCount(ctypes.byref(number))
    return facts._replace(devices=number.value)


def explain_missing_gpus(facts: GpuFacts, *, wanted: int, needed_cuda: str | None) -> str:
    """Why TensorFlow does not see the GPUs that it should, and the fix.

    Args:
        facts: Of that process.
        wanted: How many GPUs it should see.
        needed_cuda: The CUDA that TensorFlow is built with, as "12.5.1"; None if without.
    """
    return next(_reasons(facts, wanted, needed_cuda))


def _reasons(facts: GpuFacts, wanted: int, needed_cuda: str | None) -> Iterator[str]:
    """What is wrong. Each reason can also cause those after it."""
    if needed_cuda is None:
        yield "this TensorFlow is built without CUDA; install tensorflow[and-cuda]"
        return
    needed = f"a driver for CUDA {'.'.join(needed_cuda.split('.')[:2])} or later"
    served = ".".join(map(str, facts.driver_cuda))
    container = "start the container with NVIDIA's runtime, as by docker's --gpus all"
    if facts.visible is not None and facts.visible.strip() in ("", "-1"):
        yield f"{VISIBLE_VARIABLE}={facts.visible!r} hides them; unset it"
    if facts.driver_error and not facts.kernel_driver:
        yield f"no NVIDIA driver runs there ({facts.driver_error}); install {needed}"
    elif facts.driver_error:
        yield (
            f"driver {facts.kernel_driver} runs there, but its library does not load "
            f"({facts.driver_error}); {container}"
        )
    if not facts.device_files:
        yield f"there is no device file /dev/nvidia0; {container}"
    if facts.init_error:
        yield (
            f"CUDA does not start (cuInit: {facts.init_error}; driver "
            f"{facts.kernel_driver}, CUDA {served}); restart the node, or install {needed}"
        )
    if facts.driver_cuda[0] < int(needed_cuda.split(".")[0]):
        yield f"driver {facts.kernel_driver} serves CUDA {served} only; install {needed}"
    if reasons := [facts.library_errors[name] for name in _NEEDED if name in facts.library_errors]:
        yield (
            f"libraries do not load ({', '.join(reasons)}); install the versions of "
            "constraints-gpu.txt, or use the gpu image"
        )
    if facts.devices != wanted:
        yield (
            f"with {VISIBLE_VARIABLE}={facts.visible} CUDA shows {facts.devices} of "
            f"{', '.join(facts.device_files)}; start Ray there with the GPUs that CUDA shows"
        )
    yield (
        "driver and libraries are in order, TensorFlow itself refuses; with "
        "TF_CPP_MIN_LOG_LEVEL=0 its log says why"
    )
