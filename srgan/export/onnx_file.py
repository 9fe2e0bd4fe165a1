"""A generator as an ONNX file: uint8 in and out, batch, height and width free."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from srgan.export.graph import Op, operations

FILE = "model.onnx"

# Old enough for runtimes of the last years, new enough for all that a generator needs.
_OPSET = 17
_IR_VERSION = 8


def write_onnx(network: Any, facts: Mapping[str, Any], folder: Path) -> None:
    """Writes `model.onnx`; every fact becomes a property of the file, as JSON.

    Args:
        network: As for `operations`.
        facts: What describes it.
        folder: Where the file goes.

    Raises:
        UserError: As `operations`.
    """
    import onnx

    model = onnx_model(operations(network))
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / FILE)


def onnx_model(ops: Sequence[Op]) -> Any:
    """The ONNX model of a generator's operations.

    It maps `image` uint8 [batch, height, width, 3] to `sr`, uint8 too, rounded half up. Inside,
    the channels come before height and width, as ONNX wants them.
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    image = graph.add("Cast", ["image"], "float", to=TensorProto.FLOAT)
    unit = graph.add("Div", [image, graph.constant("white", np.float32(255))], "unit")
    graph.add("Transpose", [unit], "lr", perm=[0, 3, 1, 2])
    for op in ops:
        _add(graph, op)
    # Rounded as `srgan.upscale` does; ONNX's own Round takes halves to even numbers.
    levels = graph.affine(ops[-1].output, "levels", np.float32(127.5), np.float32(128))
    whole = graph.add("Floor", [levels], "whole_levels")
    limits = [graph.constant("black", np.float32(0)), "white"]
    clipped = graph.add("Clip", [whole, *limits], "clipped_levels")
    last = graph.add("Transpose", [clipped], "sr_levels", perm=[0, 2, 3, 1])
    graph.add("Cast", [last], "sr", to=TensorProto.UINT8)
    shapes = (
        ("image", ["batch", "height", "width", 3]),
        ("sr", ["batch", "sr_height", "sr_width", 3]),
    )
    given, made = (helper.make_tensor_value_info(n, TensorProto.UINT8, s) for n, s in shapes)
    return helper.make_model(
        helper.make_graph(graph.nodes, "generator", [given], [made], graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="srgan",
    )


class _Graph:
    """Nodes and constants of a graph that grows; every node is named as the tensor it makes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Adds a node; returns the tensor that it makes."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Adds a constant; returns its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def affine(self, x: str, output: str, factor: Any, offset: Any) -> str:
        """Adds x * factor + offset."""
        product = self.add("Mul", [x, self.constant(f"{output}_factor", factor)], f"{output}_mul")
        return self.add("Add", [product, self.constant(f"{output}_offset", offset)], output)


def _add(graph: _Graph, op: Op) -> None:
    name, inputs = op.output, list(op.inputs)
    match op.kind:
        case "conv":
            kernel, bias = op.weights
            inputs.append(graph.constant(f"{name}_kernel", kernel.transpose(3, 2, 0, 1)))
            inputs.append(graph.constant(f"{name}_bias", bias))
            graph.add("Conv", inputs, name, pads=[side // 2 for side in kernel.shape[:2]] * 2)
        case "prelu":
            slopes = graph.constant(f"{name}_slopes", op.weights[0].reshape(-1, 1, 1))
            graph.add("PRelu", [*inputs, slopes], name)
        case "add":
            graph.add("Add", inputs, name)
        case "pixel_shuffle":
            graph.add("DepthToSpace", inputs, name, blocksize=op.factor, mode="DCR")
        case "bilinear":
            scales = np.array([1, 1, op.factor, op.factor], np.float32)
            inputs += ["", graph.constant(f"{name}_scales", scales)]
            centres = {"coordinate_transformation_mode": "half_pixel"}
            graph.add("Resize", inputs, name, mode="linear", **centres)
        case "affine":
            graph.affine(inputs[0], name, *op.weights)
        case "tanh":
            graph.add("Tanh", inputs, name)
