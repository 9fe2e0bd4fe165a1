"""A generator as a Keras file that also says what it is."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "model.keras"
FACTS = "srgan.json"


def write_keras(network: Any, facts: Mapping[str, Any], folder: Path) -> None:
    """Writes `model.keras`: the network, and the facts as `srgan.json` in the same archive.

    Keras reads the members that it knows and ignores this one.

    Args:
        network: Maps float32 LR in [0, 1] to SR in [-1, 1].
        facts: What describes it.
        folder: Where the file goes.
    """
    network.save(folder / FILE)
    with zipfile.ZipFile(folder / FILE, "a") as archive:
        archive.writestr(FACTS, facts_json(facts))


def facts_json(facts: Mapping[str, Any]) -> str:
    """The facts as JSON for people and programs."""
    return json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
