"""The CPU cores and GPUs that Ray gave to this process: TensorFlow and OpenCV keep to them."""

import os

import cv2
import ray

from data_pipeline.platform.cuda import VISIBLE_VARIABLE, explain_missing_gpus, gpu_facts
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.node import node_folder

# The most that CUDA allows. With less it may drop kernels of TensorFlow's that it needs again.
_KERNEL_CACHE_BYTES = 4 << 30


def use_devices(*, cpus: int, gpus: int) -> None:
    """Prepares this process for its share of a node. Call it before TensorFlow's first operation.

    TensorFlow, XLA and CUDA read the variables that it sets when they are first used.

    - Thread pools get a thread for each of the process's cores, else one for each of the node's.
      A run on the CPU gives the same bits in every process with the same number of threads.
    - GPU memory grows as it is needed.
    - The driver compiles many of TensorFlow's kernels for a new GPU, which takes minutes. It keeps
      them in the node's folder.

    Args:
        cpus: Cores of this process.
        gpus: GPUs of this process. Ray hides no GPU from a process without any, so 0 hides them.

    Raises:
        UserError: If TensorFlow sees another number of GPUs. It says why.
    """
    cv2.setNumThreads(cpus)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(cpus)
    if not gpus:
        os.environ[VISIBLE_VARIABLE] = ""
        return
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    compiling, flags = "--xla_gpu_force_compilation_parallelism", os.environ.get("XLA_FLAGS", "")
    if compiling not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {compiling}={cpus}".strip()
    os.environ.setdefault("CUDA_CACHE_PATH", str(node_folder("cuda")))
    os.environ.setdefault("CUDA_CACHE_MAXSIZE", str(_KERNEL_CACHE_BYTES))
    import tensorflow as tf

    found = len(tf.config.list_physical_devices("GPU"))
    if found != gpus:
        where = f"node {ray.util.get_node_ip_address()}"
        raise UserError(
            f"{where}: Ray assigned {gpus} GPU(s), TensorFlow sees {found}: {why_no_gpus(gpus)}"
        )


def why_no_gpus(wanted: int) -> str:
    """Why TensorFlow does not see so many GPUs in this process, and the fix."""
    import tensorflow as tf

    built_with = tf.sysconfig.get_build_info().get("cuda_version")
    return explain_missing_gpus(gpu_facts(), wanted=wanted, needed_cuda=built_with)
