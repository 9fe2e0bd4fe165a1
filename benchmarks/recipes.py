"""The recommended recipe against its rivals, from several seeds, on one GPU.

KERAS_BACKEND=jax python -m benchmarks.recipes --train FOLDER --valid FOLDER --lpips-weights FILE
    --out FOLDER [--benchmarks FOLDER ...] [--runs NAME ...] [--seeds 0 1 2] [--timing]

It trains every run of `benchmarks/recipe_runs.py` with the sizes of a configuration, all seeds of a
run side by side in one compiled call, and scores the moving average on the photographs of VALID.
FOLDER gets the result after each run, and the generators of its end: the same command goes on where
it was stopped. With `--benchmarks` (folders of HR/ and LR_x4/) it scores the generators of the end
on these too. `--timing` measures a step of each program and trains nothing.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from ruamel.yaml import YAML

from benchmarks.common import SCALE, Figures, print_result, read
from benchmarks.recipe_runs import RUNS, Run, with_starts
from benchmarks.recipe_scores import Photographs
from benchmarks.recipe_step import Program, Recipe, factors
from data_pipeline.images import SUFFIXES
from data_pipeline.imresize import imresize

_ROOT = Path(__file__).parent.parent


def main() -> None:
    """Trains what is not there yet, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, type=Path)
    parser.add_argument("--valid", required=True, type=Path)
    parser.add_argument("--lpips-weights", required=True, type=Path, metavar="FILE")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--benchmarks", nargs="*", default=[], type=Path, metavar="FOLDER")
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=RUNS, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", default=[0, 1, 2], type=int)
    parser.add_argument("--chunk", type=int, default=100, help="steps of a compiled call")
    parser.add_argument("--config", default=_ROOT / "benchmarks/quality.yaml", type=Path)
    parser.add_argument("--timing", action="store_true")
    args = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error("set KERAS_BACKEND=jax")
    args.out.mkdir(parents=True, exist_ok=True)
    bench = _Bench(args)
    print_result(bench.timings() if args.timing else bench.result())


class _Bench:
    """The data on the device, the compiled programs, and the runs of all seeds."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._sizes = YAML(typ="safe").load(args.config)
        keras.config.set_dtype_policy(self._sizes["precision"])
        self._batch, self._crop = (
            self._sizes["batch"].get("global_batch", 16),
            self._sizes["batch"]["hr_crop"],
        )
        self._images = _pairs(args.train)
        self._frozen = _vgg16(args.lpips_weights)
        self._valid = Photographs(args.valid)
        self._names = with_starts(args.runs)
        self._recipes: dict[Program, Recipe] = {}
        self._calls: dict[Program, Future[Any]] = {}
        pool = ThreadPoolExecutor()
        for name in self._names:
            program = RUNS[name].program
            if program not in self._recipes and not self._saved(name).exists():
                self._recipes[program] = Recipe(program, self._sizes, hr_crop=self._crop)
                lowered = self._lowered(RUNS[name])
                self._calls[program] = pool.submit(lowered.compile)

    def _saved(self, name: str) -> Path:
        folder: Path = self._args.out
        return folder / f"{name.replace(', ', '-').replace(' ', '_')}.npz"

    def _inputs(self, run: Run, call: int) -> tuple[Any, ...]:
        """The inputs of a compiled call after the states."""
        args, (lr, _) = self._args, self._images
        side = self._crop // SCALE
        most = (len(lr), lr.shape[1] - side + 1, lr.shape[2] - side + 1, 8)
        shape = (args.chunk, self._batch, len(most))
        draws = [np.random.default_rng([seed, call]) for seed in args.seeds]
        corners = np.stack([draw.integers(0, most, shape, np.int32) for draw in draws], axis=1)
        steps = np.arange(call * args.chunk, (call + 1) * args.chunk, dtype=np.float32)
        share = steps / (run.calls * args.chunk)
        rates = run.rate * (np.ones_like(steps) if run.start else (1 + np.cos(np.pi * share)) / 2)
        frozen = self._frozen if run.program.perceptual else {}
        weights = factors(**run.factors)
        return self._images, (jnp.asarray(corners), jnp.asarray(rates)), weights, frozen

    def _states(self, run: Run, starts: Sequence[Any] | None) -> Any:
        recipe = self._recipes[run.program]
        states = [
            recipe.state(seed, starts[number] if starts else None, **run.options)
            for number, seed in enumerate(self._args.seeds)
        ]
        return jax.tree.map(lambda *values: jnp.stack(values), *states)

    def _lowered(self, run: Run) -> Any:
        call = jax.jit(self._recipes[run.program].steps, donate_argnums=0)
        return call.lower(self._states(run, None), *self._inputs(run, 0))

    def timings(self) -> dict[str, Any]:
        """Milliseconds of a step of all seeds, by program: the first run's that needs it."""
        found: dict[str, Any] = {"machine": _machine()}
        runs = {RUNS[name].program: (name, RUNS[name]) for name in reversed(self._names)}
        for name, run in reversed(runs.values()):
            began = time.perf_counter()
            call = self._calls[run.program].result()
            waited = time.perf_counter() - began
            states, seconds = self._states(run, None), []
            for number in range(3):
                inputs = self._inputs(run, number)
                began = time.perf_counter()
                states, seen = call(states, *inputs)
                assert np.isfinite(np.asarray(seen["loss"])).all(), name
                seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
            self._score(run.program, states["average"], self._valid)
            figures = {
                "milliseconds": 1000 * min(seconds[1:]) / self._args.chunk,
                "waited_for_compiling_seconds": waited,
                "first_score_seconds": time.perf_counter() - began,
            }
            print(name, figures, flush=True)
            found[name] = figures
        return found

    def result(self) -> dict[str, Any]:
        """Figures of all runs, by name."""
        file = self._args.out / "recipes.json"
        result: dict[str, Any] = {
            "machine": _machine(),
            "seeds": self._args.seeds,
            "chunk": self._args.chunk,
            "runs": {},
        }
        if file.exists():  # the machine is the one that began
            result = json.loads(file.read_text())
        ends: dict[str, list[Any]] = {}
        for name in self._names:
            run = RUNS[name]
            if self._saved(name).exists():
                ends[name] = _read(self._saved(name), len(self._args.seeds))
            else:
                ends[name], result["runs"][name] = self._trained(run, ends.get(run.start))
                _write(self._saved(name), ends[name])
            self._add_benchmarks(run, ends[name], result["runs"].setdefault(name, {}))
            file.write_text(json.dumps(result, indent=1))
            print(name, json.dumps(result["runs"][name]), flush=True)
        return result

    def _trained(self, run: Run, starts: Sequence[Any] | None) -> tuple[list[Any], dict[str, Any]]:
        """The moving averages of a run's end, by seed, and the run's figures."""
        call = self._calls[run.program].result()
        states = self._states(run, starts)
        began = time.perf_counter()
        seen, scores = [], {}
        for number in range(run.calls):
            states, values = call(states, *self._inputs(run, number))
            seen.append(values)
            if number + 1 in run.at:
                steps = (number + 1) * self._args.chunk
                scores[str(steps)] = self._score(run.program, states["average"], self._valid)
        seconds = time.perf_counter() - began
        means = {
            name: np.stack([np.asarray(values[name]).mean(axis=0) for values in seen])
            for name in seen[0]
        }
        figures: dict[str, Any] = {"steps": run.calls * self._args.chunk, "seconds": seconds}
        figures |= {"loss": means.pop("loss")[-1].tolist()}
        figures |= {
            name: np.stack([one.min(axis=0), one.max(axis=0)], axis=1).tolist()
            for name, one in means.items()
        }
        count = len(self._args.seeds)
        ends = [[np.asarray(one[seed]) for one in states["average"]] for seed in range(count)]
        return ends, figures | {"scores": scores}

    def _score(self, program: Program, average: Sequence[Any], images: Photographs) -> Any:
        """Scores by measure, a list of seeds."""
        network = self._recipe(program).generator
        found: list[Figures] = [
            images.score(network, [one[seed] for one in average])
            for seed in range(len(self._args.seeds))
        ]
        return {name: [one[name] for one in found] for name in found[0]}

    def _recipe(self, program: Program) -> Recipe:
        """One for every generator, so that the scores are compiled once."""
        alike = [one for one in self._recipes if one.global_skip == program.global_skip]
        if not alike:
            self._recipes[program] = Recipe(program, self._sizes, hr_crop=self._crop)
        return self._recipes[alike[0] if alike else program]

    def _add_benchmarks(self, run: Run, ends: Sequence[Any], figures: dict[str, Any]) -> None:
        average = [jnp.asarray(np.stack(one)) for one in zip(*ends, strict=True)]
        for folder in self._args.benchmarks:
            if folder.name not in figures:
                figures[folder.name] = self._score(run.program, average, Photographs(folder))


def _pairs(folder: Path) -> tuple[Any, Any]:
    """LR and HR, uint8 RGB, of photographs of one size, on the device."""
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    with ThreadPoolExecutor() as pool:
        hr = list(pool.map(lambda file: np.ascontiguousarray(read(file)[..., ::-1]), files))
        lr = list(pool.map(lambda image: imresize(image, 1 / SCALE), hr))
    return jnp.asarray(np.stack(lr)), jnp.asarray(np.stack(hr))


def _vgg16(file: Path) -> dict[str, Any]:
    """The arrays in the policy's dtype; arrays of uint16 hold bfloat16."""
    dtype = keras.config.dtype_policy().compute_dtype
    with np.load(file) as arrays:
        found = {name: jnp.asarray(arrays[name]) for name in arrays}
    return {
        name: (one.view(jnp.bfloat16) if one.dtype == jnp.uint16 else one).astype(dtype)
        for name, one in found.items()
    }


def _write(file: Path, ends: Sequence[Sequence[Any]]) -> None:
    arrays = {f"{seed}/{k}": one for seed, end in enumerate(ends) for k, one in enumerate(end)}
    part = file.with_suffix(".part")
    with part.open("wb") as out:
        np.savez(out, **arrays)
    part.rename(file)


def _read(file: Path, seeds: int) -> list[Any]:
    with np.load(file) as arrays:
        count = len(arrays) // seeds
        return [[arrays[f"{seed}/{k}"] for k in range(count)] for seed in range(seeds)]


def _machine() -> dict[str, Any]:
    device = jax.devices()[0]
    return {"device": device.device_kind, "jax": jax.__version__, "keras": keras.__version__}


if __name__ == "__main__":
    main()
