"""What a rater's browser gets of a study. It tells neither methods nor roles."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srgan.study.records import Key, Trial

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("answers.js", "sources.js", "stage.js", "cards.js", "page.js")
STYLE = "page.css"

_STYLE_LINK = f'<link rel="stylesheet" href="{STYLE}">'


def rater_trials(plan: list[Trial]) -> list[dict[str, int]]:
    """A plan as the page needs it: each trial's session; for training also the answer to learn."""
    return [
        {"session": one.session} | ({"example": one.expected[0]} if one.role == "training" else {})
        for one in plan
    ]


def study_facts(key: Key, identity: str, plan: int) -> dict[str, Any]:
    """What the page has to know to show a plan."""
    side = next(iter(key.stimuli.values())).crop[2]
    return {
        "study": identity,
        "mode": key.mode,
        "side": side,
        "plan": plan,
        "trials": rater_trials(key.plans[plan]),
    }


def page_key(plan: int) -> str:
    """The key of a plan's page that needs no server, in STUDY."""
    return f"pages/plan-{plan:02}.html"


def offline_page(key: Key, identity: str, plan: int, pictures: Mapping[str, bytes]) -> str:
    """A plan as one HTML file with all its pictures, which saves the ratings as a file.

    A picture that is shown twice is in it twice, as any two pictures are.

    Args:
        key: The study's key.
        identity: See `study_id`.
        plan: The plan's number.
        pictures: PNG files by blind name.
    """
    facts = study_facts(key, identity, plan)
    facts["pictures"] = [
        [
            f"data:image/png;base64,{base64.b64encode(pictures[name]).decode()}"
            for name in one.stimuli
        ]
        for one in key.plans[plan]
    ]
    style = (PAGE / STYLE).read_text()
    script = "".join((PAGE / name).read_text() for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_hash(script)}'; "
        f"style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'"
    )
    head, rest = (PAGE / "index.html").read_text().split(_STYLE_LINK)
    body, _, _ = rest.partition("<script src=")
    return (
        f'{head}<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<style>{style}</style>{body}"
        f'<script type="application/json" id="study">{json.dumps(facts)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
