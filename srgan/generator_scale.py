"""How many times a generator enlarges, read from its file without Keras."""

import io
import json
import math
import zipfile
import zlib


def stored_scale(file: bytes) -> int | None:
    """How many times a generator's file enlarges; None for a file that is damaged.

    Without Keras, which would open GPUs to build the network. See `srgan.networks.scale_of`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
        stages = [layer["config"] for layer in layers if layer["class_name"] == "PixelShuffle"]
        return math.prod(int(stage.get("factor", 2)) for stage in stages)
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, TypeError, AttributeError):
        return None
