"""The formats of an export: how each is written, and how people load it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from srgan.export import keras_file, onnx_file, saved_model

Name = Literal["keras", "saved_model", "onnx"]


class Snippet(NamedTuple):
    """How Python upscales with an export, one line each, run in the export's folder.

    `load` makes what `run` uses; `run` makes `sr`, uint8 [H, W, 3], of `lr`, uint8 [h, w, 3].
    """

    imports: str
    load: str
    run: str

    def text(self) -> str:
        """The five lines of the model card."""
        read = 'lr = np.asarray(PIL.Image.open("lr.png").convert("RGB"))'
        write = 'PIL.Image.fromarray(sr).save("sr.png")'
        return "\n".join([self.imports, self.load, read, self.run, write])


class Format(NamedTuple):
    """A format.

    Attributes:
        title: Its name for people.
        write: Writes the export of a float32 network with its facts into a folder.
        files: The files and folders/ that it writes; a reader opens the last one first.
        needs: Modules beside the package's own requirements, to write and to compare.
        loads_without_us: Whether it loads where this package is not installed.
        values: What the network in it takes and gives.
        library: Hugging Face's name of the library that loads it, if there is one.
        snippet: How people use it.
    """

    title: str
    write: Callable[[Any, Mapping[str, Any], Path], None]
    files: tuple[str, ...]
    needs: tuple[str, ...]
    loads_without_us: bool
    values: dict[str, str]
    library: str | None
    snippet: Snippet


_LEVELS = {
    "input": "uint8 [N, h, w, 3], 0 to 255",
    "output": "uint8 [N, scale * h, scale * w, 3], 0 to 255",
    "colour_order": "RGB",
}
_UNIT = {
    "input": "float32 [N, h, w, 3], 0 to 1",
    "output": "float32 [N, scale * h, scale * w, 3], -1 to 1",
    "colour_order": "RGB",
}

FORMATS: dict[Name, Format] = {
    "keras": Format(
        title="Keras",
        write=keras_file.write_keras,
        files=(keras_file.FILE,),
        needs=(),
        loads_without_us=False,
        values=_UNIT,
        library="keras",
        snippet=Snippet(
            "import numpy as np, PIL.Image, srgan",
            f'generator = srgan.load_generator("{keras_file.FILE}")',
            "sr = generator.upscale(lr)",
        ),
    ),
    "saved_model": Format(
        title="SavedModel",
        write=saved_model.write_saved_model,
        files=("fingerprint.pb", "variables/", "saved_model.pb"),
        needs=(),
        loads_without_us=True,
        values=_LEVELS,
        library=None,
        snippet=Snippet(
            "import numpy as np, PIL.Image, tensorflow as tf",
            'model = tf.saved_model.load(".").signatures["serving_default"]',
            'sr = model(image=tf.constant(lr[None]))["sr"][0].numpy()',
        ),
    ),
    "onnx": Format(
        title="ONNX",
        write=onnx_file.write_onnx,
        files=(onnx_file.FILE,),
        needs=("onnx", "onnxruntime"),
        loads_without_us=True,
        values=_LEVELS,
        library="onnx",
        snippet=Snippet(
            "import numpy as np, onnxruntime, PIL.Image",
            f'session = onnxruntime.InferenceSession("{onnx_file.FILE}")',
            'sr = session.run(None, {"image": lr[None]})[0][0]',
        ),
    ),
}
