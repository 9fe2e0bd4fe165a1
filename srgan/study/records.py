"""What a study knows: stimuli, trials and ratings."""

from typing import Literal, NamedTuple

Mode = Literal["acr", "pairs"]
Role = Literal["training", "scored", "repeat", "gold", "trap"]

TRAP = "trap"  # the method of a picture that shows which answer it wants


class Stimulus(NamedTuple):
    """A picture that raters see.

    Attributes:
        name: Blind name: hexadecimal digits that tell nothing.
        image: Name of the evaluation's image; empty for a trap.
        method: `nearest`, `bicubic`, `srresnet`, `srgan`, `hr`, or `TRAP`.
        crop: Top, left, height and width in the HR image, in pixels.
    """

    name: str
    image: str
    method: str
    crop: tuple[int, int, int, int]


class Trial(NamedTuple):
    """A question to a rater.

    Attributes:
        number: From 0, unique within a rater's plan; raters see trials in this order.
        session: From 0; a rater rests between sessions.
        role: `training` is shown first and never scored. `repeat` shows the stimuli of an earlier
            scored trial again. `gold` and `trap` have answers that an attentive rater gives.
        stimuli: Blind names: one to rate (mode acr), or left and right (mode pairs).
        expected: The answers that pass; empty unless the role is `training`, `gold` or `trap`.
    """

    number: int
    session: int
    role: Role
    stimuli: tuple[str, ...]
    expected: tuple[int, ...] = ()


class Key(NamedTuple):
    """What only the study's owner sees; raters never get it.

    Attributes:
        mode: acr: five-point absolute category rating. pairs: which of two looks better.
        evaluation: URI of the evaluation's folder, whose table gets the scores.
        epoch: The epoch of the stimuli of method srgan.
        generators: The sha256 of the generators that made the stimuli, by name.
        stimuli: By blind name.
        plans: A rater's trials. The n-th rater gets the plan of number n modulo their count.
    """

    mode: Mode
    evaluation: str
    epoch: int
    generators: dict[str, str]
    stimuli: dict[str, Stimulus]
    plans: list[list[Trial]]


class Rating(NamedTuple):
    """One answer.

    Attributes:
        rater: The rater's pseudonym, the same in all of their ratings.
        plan: Number of the plan in `Key.plans`.
        trial: Number of the trial in the plan.
        answer: acr: 1 (bad) to 5 (excellent). pairs: 0 if left looks better, 1 if right does.
        milliseconds: From the picture's appearance to the answer.
        simulated: Whether a simulated rater gave it.
    """

    rater: str
    plan: int
    trial: int
    answer: int
    milliseconds: int
    simulated: bool = False
