"""What a training step is made of, and what it takes where there is next to nothing to compute.

python -m benchmarks.step_graph DATA [--blocks 16]

For both phases, one and two replicas on the CPU, without and with XLA: operations that TensorFlow
executes in a step, nodes that it traced, sums over replicas, seconds until the first call is
done, and milliseconds of a step with 4 filters and crops of 16 pixels. With one launch for each
operation, a GPU's step cannot be faster than these. Each case has a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.common import Figures, print_result

_CONFIG = """
generator: {{blocks: {blocks}, filters: 4}}
discriminator: {{filters: 4, dense: 8}}
batch: {{global_batch: 4, hr_crop: 16}}
phases:
  pretrain:
    steps: 1000
    losses: {{mse: 1}}
  gan:
    steps: 1000
    losses: {{mse: 1, adversarial: 1e-3}}
"""
_STEPS, _CALLS = 10, 7

# Nodes of a graph that stand for no operation, or that carry a loop's values.
_NO_OPERATIONS = {"_Arg", "_Retval", "Const", "Identity", "NoOp", "VarHandleOp"}
_NO_OPERATIONS |= {"Enter", "Exit", "Merge", "Switch", "NextIteration", "LoopCond"}


def main() -> None:
    """Measures all cases and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="DATA with patches of at least 16 pixels")
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        phase, replicas, xla = args.case
        print(json.dumps(_measure(args.data, args.blocks, phase, int(replicas), xla == "xla")))
    else:
        print_result(step_graphs(args.data, args.blocks))


def step_graphs(data: str, blocks: int = 16) -> dict[str, Figures]:
    """The figures of every case, by its name."""
    found = {}
    for phase in ("pretrain", "gan"):
        for replicas, mode in ((1, "plain"), (1, "xla"), (2, "plain")):
            case = [phase, str(replicas), mode]
            command = [sys.executable, "-m", "benchmarks.step_graph", data]
            command += ["--blocks", str(blocks), "--case", *case]
            root = Path(__file__).parent.parent
            done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)  # noqa: S603
            found["_".join(case)] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(data: str, blocks: int, phase_name: str, replicas: int, xla: bool) -> Figures:
    import tensorflow as tf
    from tensorflow.python.eager import context  # collects graphs after optimisation

    from data_pipeline.loading.dataset import Batches
    from data_pipeline.loading.patch_set import PatchSet
    from data_pipeline.manifest import require_manifest
    from data_pipeline.platform.storage import open_storage
    from srgan.config_file import parse_config
    from srgan.training.state import begin_phase, build_networks
    from srgan.training.step import make_train_call
    from srgan.training.strategy import local_strategy

    cpus = os.cpu_count() or 1
    tf.config.threading.set_intra_op_parallelism_threads(cpus)
    tf.config.threading.set_inter_op_parallelism_threads(cpus)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    config = parse_config(_CONFIG.format(blocks=blocks), "benchmark")
    storage = open_storage(data)
    manifest = require_manifest(storage)
    batches = Batches(PatchSet(storage, manifest), manifest, seed=0, global_batch=4, hr_crop=16)
    strategy = local_strategy([f"/cpu:{number}" for number in range(replicas)])
    phase = config.phases[phase_name]
    with strategy.scope():
        state = begin_phase(
            build_networks(config, scale=manifest.settings.scale), phase, steps=1000
        )

    def dataset(_: Any) -> tf.data.Dataset:
        return batches.dataset(
            start=0, stop=1000, replicas=range(replicas), num_replicas=replicas, endless=True
        )

    iterator = iter(strategy.distribute_datasets_from_function(dataset))
    call = make_train_call(strategy, state, config, phase, {}, xla=xla)
    arguments = (iterator, tf.constant(_STEPS), tf.zeros(3, tf.float64))
    context.enable_graph_collection()
    began = time.perf_counter()
    call(*arguments).terms.numpy()
    first = time.perf_counter() - began
    graphs = context.export_run_metadata().function_graphs
    context.disable_graph_collection()
    executed = max(
        (
            Counter(node.op for part in graph.partition_graphs for node in part.node)
            for graph in graphs
        ),
        key=Counter.total,
    )
    seconds = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        call(*arguments).terms.numpy()
        seconds.append((time.perf_counter() - began) / _STEPS)
    traced = traced_operations(call, arguments)
    return {
        "operations": sum(n for op, n in executed.items() if op not in _NO_OPERATIONS),
        "traced_nodes": traced.total(),
        "sums_per_replica": sum(n for op, n in traced.items() if "Collective" in op) / replicas,
        "first_call_seconds": first,
        "milliseconds": 1000 * min(seconds),
    }


def traced_operations(call: Any, arguments: tuple[Any, ...]) -> Counter[str]:
    """How often each operation stands in a compiled function and those that it calls."""
    graph = call.get_concrete_function(*arguments).graph.as_graph_def()
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    return Counter(node.op for body in bodies for node in body)


if __name__ == "__main__":
    main()
