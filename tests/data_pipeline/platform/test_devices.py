"""A process keeps to the cores and GPUs that Ray gave to it."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CORES = 5  # neither the machine's number, nor a default

# The devices of a machine with one GPU are faked: what is asked of TensorFlow is all that matters.
PROCESS = f"""
import collections, json, os, sys
from pathlib import Path
import cv2
import tensorflow as tf
from data_pipeline.platform.devices import use_devices
gpus = int(sys.argv[1])
real = tf.config.list_physical_devices
tf.config.list_physical_devices = lambda kind: ["GPU:0"]
use_devices(cpus={CORES}, gpus=gpus)
tf.config.list_physical_devices = real
tf.function(lambda: tf.random.normal([64, 64]) @ tf.ones([64, 64]), jit_compile=True)()
names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
kinds = collections.Counter(name.strip() for name in names)
threads = [cv2.getNumThreads(), kinds["tf_Compute"], kinds["tf_XLAEigen"]]
print(json.dumps([*threads, dict(os.environ)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize("gpus", [0, 1])
def test_threads_follow_the_cores_with_and_without_a_gpu(gpus, tmp_path):
    ours = ("CUDA_", "XLA_", "TF_")
    environment = {key: text for key, text in os.environ.items() if not key.startswith(ours)}
    environment |= {"SRGAN_CACHE": str(tmp_path), "XLA_FLAGS": "--xla_gpu_autotune_level=4"}
    result = subprocess.run(
        [sys.executable, "-c", PROCESS, str(gpus)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *threads, found = json.loads(result.stdout)
    assert threads == [CORES] * 3  # OpenCV's, TensorFlow's, XLA's
    if not gpus:
        assert found["CUDA_VISIBLE_DEVICES"] == ""
        assert "CUDA_CACHE_PATH" not in found
        return
    assert "CUDA_VISIBLE_DEVICES" not in found
    assert found["CUDA_CACHE_PATH"] == str(tmp_path / "cuda")
    assert (tmp_path / "cuda").is_dir()
    assert int(found["CUDA_CACHE_MAXSIZE"]) == 2**32
    assert found["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    parallel = f"--xla_gpu_force_compilation_parallelism={CORES}"
    assert found["XLA_FLAGS"] == f"--xla_gpu_autotune_level=4 {parallel}"
