"""The trainings that `benchmarks.recipes` compares: one table."""

from typing import Any, NamedTuple

from benchmarks.recipe_step import Program


class Run(NamedTuple):
    """A training of all seeds.

    Attributes:
        program: What is compiled for it.
        factors: Weights of the losses.
        calls: Compiled calls, of `--chunk` steps each.
        rate: Adam's learning rate; it falls to 0 as a cosine where `start` is "".
        start: The run whose generator it begins with.
        options: The generator's, for its first weights.
        at: Calls after which it is scored.
    """

    program: Program
    factors: dict[str, Any]
    calls: int
    rate: float
    start: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012
    at: tuple[int, ...] = ()


def _pretrain(calls: int, *at: int, program: Program | None = None, **options: Any) -> Run:
    program = program or Program()
    return Run(program, {"pixel": 1}, calls, 1e-3, options=options, at=(*at, calls))


def _gan(start: str = "pretrain", calls: int = 30, **given: Any) -> Run:
    factors = {"pixel": 1, "lpips": 1, "adversarial": 2e-2, "r1": given.pop("gamma", 0)}
    program = Program(**{"discriminator": "patch", "perceptual": True, **given})
    return Run(program, factors, calls, 3e-4, start, at=(calls,))


def _alone(start: str = "pretrain", *, global_skip: bool = True, **factors: Any) -> Run:
    """A perceptual loss without a discriminator: it makes the grid."""
    program = Program(global_skip=global_skip, perceptual=True)
    return Run(program, factors, 10, 3e-4, start, at=(2, 10))


def _one(stage: int, value: float = 1) -> list[float]:
    return [value if stage == number else 0 for number in range(1, 6)]


_TANH, _CHARBONNIER = Program(global_skip=False), Program(charbonnier=True)
_SHORT = (10, 1, 3, 6)

RUNS = {
    "pretrain": _pretrain(80),
    "gan": _gan(),
    "gan, U-Net": _gan(discriminator="unet"),
    "gan, R1 1": _gan(r1=True, gamma=1),
    "gan, R1 10": _gan(r1=True, gamma=10),
    "pretrain, Charbonnier": _pretrain(80, program=_CHARBONNIER),
    "gan, Charbonnier": _gan("pretrain, Charbonnier", charbonnier=True),
    # The generator's options, in short trainings.
    "short": _pretrain(*_SHORT),
    "short, slopes 0": _pretrain(*_SHORT, prelu_slope=0.0),
    "short, tanh": _pretrain(*_SHORT, program=_TANH),
    "short, tanh, slopes 0": _pretrain(*_SHORT, program=_TANH, prelu_slope=0.0),
    # What makes the grid.
    "grid, L1 and LPIPS": _alone(pixel=1, lpips=1),
    "grid, LPIPS": _alone(lpips=1),
    **{f"grid, LPIPS, stage {k}": _alone(lpips=1, stages=_one(k)) for k in range(1, 6)},
    **{f"grid, features {k}": _alone(content=_one(k)) for k in (1, 2, 5)},
    "grid, L1 and LPIPS, smooth HR": _alone(pixel=1, lpips=1, smooth=1),
    "pretrain, tanh": _pretrain(20, program=_TANH),
    "pretrain, ICNR": _pretrain(20, icnr=True),
    "pretrain, 20 calls": _pretrain(20),
    "grid, L1 and LPIPS, tanh": _alone("pretrain, tanh", global_skip=False, pixel=1, lpips=1),
    "grid, L1 and LPIPS, 20 calls": _alone("pretrain, 20 calls", pixel=1, lpips=1),
}


def with_starts(names: list[str]) -> list[str]:
    """The runs, and before each those that it begins with; none twice."""
    found: list[str] = []
    for name in names:
        start = RUNS[name].start
        found += [one for one in ([start] if start else []) + [name] if one not in found]
    return found
