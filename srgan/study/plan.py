"""Which pictures a rater sees, in which order. Pure, and determined by the seed."""

import math
import random
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from srgan.evaluation.table import HR, NEAREST
from srgan.study.crops import ChosenCrops, Crop
from srgan.study.records import TRAP, Mode, Role, Stimulus, Trial

# A multiple of the number of methods and of the number of pairs of them. So all plans together
# show every method of a crop equally often in every part of the study.
PLANS = 60

FEWEST_CROPS = 4  # so that a repeat finds a place that is not beside the same crop

_SESSION_SECONDS = 600
_TRIAL_SECONDS: dict[Mode, int] = {"acr": 8, "pairs": 10}
_TRAP_ANSWERS = (2, 4)  # not the ends, which careless raters press most
_CHOOSE, _LEAVE = "CHOOSE THIS", "NOT THIS"


class StudyPlan(NamedTuple):
    """All that is shown.

    Attributes:
        stimuli: By blind name.
        plans: See `Key`.
        traps: What is written on the picture of a trap, by blind name.
    """

    stimuli: dict[str, Stimulus]
    plans: list[list[Trial]]
    traps: dict[str, str]


class _Item(NamedTuple):
    """A trial before it has its place."""

    role: Role
    stimuli: tuple[str, ...]
    crop: Crop | None = None
    expected: tuple[int, ...] = ()


def make_plan(chosen: ChosenCrops, methods: Sequence[str], mode: Mode, seed: int) -> StudyPlan:
    """Plans a study.

    Every rater sees every method (mode pairs: every pair of methods) of every scored crop once,
    and some of them again: each method equally often. The order is a Latin square: over as many
    plans as there are methods, every crop has each of its methods once in each part of the study.
    Between two pictures of one crop there are pictures of other crops.

    Training comes first, as in Ledig et al. (2017), section 3.3: nearest is 1 and HR is 5.

    Args:
        chosen: The crops; at least FEWEST_CROPS to score.
        methods: With `nearest` and `hr`.
        mode: See `Key`.
        seed: The same seed gives the same plan and the same blind names.
    """
    rng = random.Random(seed)  # noqa: S311
    show = _Names(rng, chosen)
    crops = rng.sample(chosen.scored, len(chosen.scored))
    arms = list(combinations(methods, 2)) if mode == "pairs" else [(one,) for one in methods]
    offsets = rng.sample([n % len(arms) for n in range(len(crops))], len(crops))
    plans = []
    for plan in range(PLANS):
        items = []
        for number, turn in _order(len(crops), len(arms), rng):
            arm = (offsets[number] + turn + plan) % len(arms)
            shown = arms[arm] if (number + arm + plan) % 2 else arms[arm][::-1]
            crop = crops[number]
            items.append(_Item("scored", show.names(crop, *shown), crop))
        repeated = _repeated(items, show, methods, mode, rng)
        checks = show.gold(chosen.gold, mode, rng)
        training = show.training(chosen.calibration, mode, rng)
        total = len(training) + len(items) + len(repeated) + len(checks)
        sessions = math.ceil(total / (_SESSION_SECONDS // _TRIAL_SECONDS[mode] - 1))  # and a trap
        _insert(items, repeated, rng)
        for check in checks:
            items.insert(rng.randrange(1, len(items)), check)
        for session in reversed(range(sessions)):  # from the end, so that the places stay
            part = len(items) / sessions
            place = math.ceil(part * session) + rng.randrange(1, math.floor(part))
            items.insert(place, show.trap(mode, rng))
        items = training + items
        plans.append(
            [
                Trial(number, number * sessions // len(items), one.role, one.stimuli, one.expected)
                for number, one in enumerate(items)
            ]
        )
    return StudyPlan(show.stimuli, plans, show.traps)


def _order(crops: int, turns: int, rng: random.Random) -> list[tuple[int, int]]:
    """Every crop once in every turn, never within `crops // 2` trials of itself."""
    gap, shown = crops // 2, list[tuple[int, int]]()
    for turn in range(turns):
        left = list(range(crops))
        while left:
            recent = {crop for crop, _ in shown[-gap:]}
            one = rng.choice([crop for crop in left if crop not in recent])
            left.remove(one)
            shown.append((one, turn))
    return shown


def _repeated(
    items: Sequence[_Item], show: "_Names", methods: Sequence[str], mode: Mode, rng: random.Random
) -> list[_Item]:
    """Trials of the first part that come again; all methods are in them equally often."""
    order = rng.sample(methods, len(methods))
    wanted = [{one} for one in order]
    if mode == "pairs":
        wanted = [{left, right} for left, right in zip(order, order[1:] + order[:1], strict=True)]
    repeated = []
    for some in wanted:
        alike = [
            one for one in items if {show.stimuli[name].method for name in one.stimuli} == some
        ]
        early = [one for one in alike if items.index(one) < len(items) // 2] or alike[:1]
        repeated.append(rng.choice(early)._replace(role="repeat"))
    return repeated


def _insert(items: list[_Item], repeated: Sequence[_Item], rng: random.Random) -> None:
    """Puts every repeat at a random place far behind the first time, not beside its crop."""
    for one in repeated:
        first = next(n for n, item in enumerate(items) if item.stimuli == one.stimuli)
        places = [
            place
            for place in range(first + 2, len(items) + 1)
            if all(item.crop != one.crop for item in items[place - 1 : place + 1])
        ]
        items.insert(rng.choice(places[len(places) // 2 :]), one)


class _Names:
    """Blind names, given when a picture is first shown."""

    def __init__(self, rng: random.Random, chosen: ChosenCrops) -> None:
        self._rng = rng
        self._known: dict[tuple[str, tuple[int, ...], str], str] = {}
        self._size = chosen.scored[0].box[2:]
        self.stimuli: dict[str, Stimulus] = {}
        self.traps: dict[str, str] = {}

    def names(self, crop: Crop, *methods: str) -> tuple[str, ...]:
        """The pictures of a crop by some methods."""
        return tuple(self._name(crop.image, crop.box, method) for method in methods)

    def training(self, crops: Sequence[Crop], mode: Mode, rng: random.Random) -> list[_Item]:
        """The worst and the best of every crop, by turns with the other crops."""
        if mode == "pairs":
            return [self._pair("training", crop, rng) for crop in crops]
        ends = rng.sample(((NEAREST, 1), (HR, 5)), 2)
        return [
            _Item("training", self.names(crop, method), crop, (answer,))
            for turn in range(2)
            for number, crop in enumerate(crops)
            for method, answer in [ends[(turn + number) % 2]]
        ]

    def gold(self, crops: Sequence[Crop], mode: Mode, rng: random.Random) -> list[_Item]:
        """Questions that differ in nothing from others, and whose answers are known."""
        if mode == "pairs":
            return [self._pair("gold", crop, rng) for crop in crops]
        ends = ((NEAREST, (1, 2)), (HR, (4, 5)))
        return [
            _Item("gold", self.names(crop, ends[n % 2][0]), crop, ends[n % 2][1])
            for n, crop in enumerate(crops)
        ]

    def trap(self, mode: Mode, rng: random.Random) -> _Item:
        """A picture that says which answer it wants."""
        if mode == "acr":
            answer = rng.choice(_TRAP_ANSWERS)
            return _Item("trap", (self._trap_name(f"PRESS {answer}"),), None, (answer,))
        wanted = rng.randrange(2)
        texts = (_CHOOSE, _LEAVE) if wanted == 0 else (_LEAVE, _CHOOSE)
        return _Item("trap", tuple(map(self._trap_name, texts)), None, (wanted,))

    def _pair(self, role: Role, crop: Crop, rng: random.Random) -> _Item:
        best = rng.randrange(2)
        methods = (HR, NEAREST) if best == 0 else (NEAREST, HR)
        return _Item(role, self.names(crop, *methods), crop, (best,))

    def _trap_name(self, text: str) -> str:
        name = self._name("", (0, 0, *self._size), TRAP, text)
        self.traps[name] = text
        return name

    def _name(self, image: str, box: tuple[int, int, int, int], method: str, text: str = "") -> str:
        known = (image + text, box, method)
        if known not in self._known:
            name = self._known[known] = f"{self._rng.getrandbits(64):016x}"
            self.stimuli[name] = Stimulus(name, image, method, box)
        return self._known[known]
