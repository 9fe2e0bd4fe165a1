"""Training and upscaling on one GPU: milliseconds, TFLOP/s, MFU, memory, and half precision.

KERAS_BACKEND=jax python -m benchmarks.gpu [--photographs FOLDER] [--vgg-weights FILE.npz]
    [--parts steps,peer,upscale,quality] [--batches 16,64,256] [--steps 50] [--out FILE]

It trains the paper's networks with the product's own networks and losses, which are plain Keras,
under JAX: a whole step is one compiled call, and batches are cut on the device. `peer` is the same
network in PyTorch, in the same run. `quality` trains both phases from several seeds in both
precisions and compares where they end. Content loss: `--content`, with random weights; `quality`
has VGG22 where a file of weights is given. JAX is a development tool; the peer needs PyTorch.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.common import print_result
from benchmarks.gpu_cases import (
    SCALE,
    compile_all,
    corners_of,
    photographs_of,
    sizes,
    trainer_of,
)
from srgan.flops import forward_flops, peak_flops, step_flops
from srgan.vgg import extractor_flops

PRECISIONS = ("float32", "mixed_bfloat16")


def main() -> None:
    """Runs the parts, writes the result after each, and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs")
    parser.add_argument("--vgg-weights")
    parser.add_argument("--parts", default="steps,peer,upscale,quality")
    parser.add_argument("--batches", default="16,64,256")
    parser.add_argument("--steps", type=int, default=50, help="timed steps of a case")
    parser.add_argument(
        "--quality-steps",
        default="300,3000",
        help="steps of each phase: from three seeds, and, the last one, from one",
    )
    parser.add_argument("--hr-crop", type=int, default=96)
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--dense", type=int, default=1024)
    parser.add_argument("--content", default="vgg54", choices=("vgg22", "vgg54"))
    parser.add_argument("--lr-size", default="510x339", help="the image that is upscaled")
    parser.add_argument("--out", help="a file for the result, written after each part")
    args = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error("set KERAS_BACKEND=jax")
    result: dict[str, Any] = _machine()
    parts: dict[str, Callable[..., Any]] = {
        "steps": _steps,
        "peer": _peer,
        "upscale": _upscale,
        "quality": _quality,
    }
    for part in args.parts.split(","):
        began = time.perf_counter()
        result[part] = parts[part](args)
        result[part]["seconds_in_all"] = time.perf_counter() - began
        if args.out:
            Path(args.out).write_text(json.dumps(result, indent=1))
    print_result(result)


def _losses(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    return {"pretrain": {"mse": 1.0}, "gan": {args.content: 1.0, "adversarial": 1e-3}}


def _machine() -> dict[str, Any]:
    import jax

    device = jax.devices()[0]
    return {"device": device.device_kind, "jax": jax.__version__, "keras": keras.__version__}


def _steps(args: argparse.Namespace) -> dict[str, Any]:
    """Every phase, precision and batch: a compiled call of `--steps` steps, the median of three."""
    images = photographs_of(args)
    cases = {}
    for phase, losses in _losses(args).items():
        for precision in PRECISIONS:
            keras.config.set_dtype_policy(precision)
            for batch in map(int, args.batches.split(",")):
                trainer = trainer_of(args, losses)
                corners = corners_of(args, len(images[0]), args.steps, batch, seed=0)
                lowered = trainer.lower_steps(images, corners)
                cases[phase, precision, batch] = trainer, corners, lowered
    calls = compile_all([lowered for *_, lowered in cases.values()])
    found: dict[str, Any] = {}
    for ((phase, precision, batch), (trainer, corners, _)), call in zip(
        cases.items(), calls, strict=True
    ):
        state, seconds = trainer.state, []
        size = sum(array.nbytes for array in (*_leaves(state), *images, corners))
        for _ in range(4):  # the first one loads the kernels
            began = time.perf_counter()
            state, values = call(state, images, corners)
            assert np.isfinite(np.asarray(values)).all()
            seconds.append(time.perf_counter() - began)
        step = statistics.median(seconds[1:]) / args.steps
        figures = {
            "milliseconds": 1000 * step,
            "program_bytes": size + call.memory_analysis().temp_size_in_bytes,
        }
        figures |= _rates(_patch_flops(args, trainer, phase) * batch / step, precision)
        name = f"{phase}_{precision}_{batch}"
        print(name, figures, flush=True)
        found[name] = figures
    return found


def _leaves(state: Any) -> list[Any]:
    import jax

    return list(jax.tree.leaves(state))


def _patch_flops(args: argparse.Namespace, trainer: Any, phase: str) -> int:
    """FLOPs of a training step for one patch."""
    side = args.hr_crop // SCALE
    forward = forward_flops(trainer.generator, side, side)
    if phase == "pretrain":
        return step_flops(generator=forward)
    return step_flops(
        generator=forward,
        discriminator=forward_flops(trainer.discriminator, args.hr_crop, args.hr_crop),
        extractors=[extractor_flops(args.content, args.hr_crop)],
    )


def _rates(flops: float, precision: str) -> dict[str, float]:
    peak = peak_flops(_machine()["device"], precision, tf32=True)
    return {"tflops": flops / 1e12} | ({"mfu": flops / peak} if peak else {})


def _peer(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds in PyTorch."""
    import torch

    from benchmarks.torch_step import seconds_per_step

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: dict[str, Any] = {"torch": torch.__version__}
    for phase in _losses(args):
        for batch in map(int, args.batches.split(",")):
            name = f"{phase}_mixed_bfloat16_{batch}"
            torch.compiler.reset()  # else it compiles the second batch for sizes that vary
            found[name] = seconds_per_step(
                gan=phase == "gan",
                batch=batch,
                hr_crop=args.hr_crop,
                sizes=sizes(args),
                steps=args.steps,
                device=device,
            )
            print("peer", name, found[name], flush=True)
    return found


def _upscale(args: argparse.Namespace) -> dict[str, Any]:
    """One whole LR image, the median of five."""
    import jax

    width, height = map(int, args.lr_size.split("x"))
    lr = np.random.default_rng(0).uniform(0, 1, (1, height, width, 3)).astype(np.float32)
    found = {}
    for precision in PRECISIONS:
        keras.config.set_dtype_policy(precision)
        network = trainer_of(args, {"mse": 1.0}).generator
        weights = [
            [variable.value for variable in variables]
            for variables in (network.trainable_variables, network.non_trainable_variables)
        ]

        def upscale(weights: Any, lr: Any, network: Any = network) -> Any:
            return network.stateless_call(*weights, lr, training=False)[0]

        call = jax.jit(upscale).lower(weights, lr).compile()
        image, seconds = jax.device_put(lr), []
        for _ in range(6):
            began = time.perf_counter()
            jax.block_until_ready(call(weights, image))
            seconds.append(time.perf_counter() - began)
        found[precision] = {
            "lr_size": args.lr_size,
            "milliseconds": 1000 * statistics.median(seconds[1:]),
            "program_bytes": call.memory_analysis().temp_size_in_bytes,
        }
        print("upscale", precision, found[precision], flush=True)
    return found


def _quality(args: argparse.Namespace) -> dict[str, Any]:
    """Trains both phases from several seeds; PSNR (RGB) of held-out photographs after each."""
    lr, hr = photographs_of(args)
    held = max(1, len(lr) // 10)
    images = (lr[held:], hr[held:])
    # VGG22's loss is thousands of times the MSE.
    content = {"vgg22": 1e-4} if args.vgg_weights else {args.content: 1.0}
    phases = {"pretrain": {"mse": 1.0}, "gan": {"mse": 1.0, "adversarial": 1e-3} | content}
    *short, long = map(int, args.quality_steps.split(","))
    runs = [(seed, steps) for steps in short for seed in range(3)] + [(0, long)]
    chunk = min(steps for _, steps in runs)
    found: dict[str, Any] = {"held_out": held}
    for precision in PRECISIONS:
        keras.config.set_dtype_policy(precision)
        trainers = {
            (phase, seed): trainer_of(args, losses, args.vgg_weights, seed=seed)
            for phase, losses in phases.items()
            for seed in sorted({seed for seed, _ in runs})
        }
        corners = corners_of(args, len(images[0]), chunk, 16, 0)
        begun = {key: _host(trainer.state) for key, trainer in trainers.items()}
        calls = compile_all([trainers[phase, 0].lower_steps(images, corners) for phase in phases])
        for seed, steps in runs:
            weights = None
            for phase, call in zip(phases, calls, strict=True):
                state = dict(begun[phase, seed])
                if weights is not None:
                    state["generator"] = (*weights, state["generator"][2])
                for part in range(steps // chunk):
                    corners = corners_of(args, len(images[0]), chunk, 16, 1000 * seed + part)
                    state, values = call(state, images, corners)
                weights = state["generator"][:2]
                figures = {
                    "psnr": _psnr(trainers[phase, seed].upscale(weights, lr[:held]), hr[:held]),
                    "loss": float(np.mean(np.asarray(values)[-100:])),
                }
                name = f"{phase}_{precision}_{steps}_steps_seed_{seed}"
                print(name, figures, flush=True)
                found[name] = figures
    return found


def _host(state: Any) -> Any:
    """A copy that a compiled call does not take."""
    import jax

    return jax.tree.map(np.array, state)


def _psnr(sr: Any, hr: Any) -> float:
    """Mean over images, RGB, of SR in [-1, 1] rounded to uint8."""
    levels = np.clip(np.rint((np.asarray(sr, np.float64) + 1) * 127.5), 0, 255)
    mse = np.mean((levels - np.asarray(hr, np.float64)) ** 2, axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / mse)))


if __name__ == "__main__":
    main()
