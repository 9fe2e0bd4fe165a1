"""Asks TensorFlow's loader of CUDA's libraries, in a process that does not import TensorFlow."""

import ctypes
import importlib
import json
import mmap
import re
import sys
from pathlib import Path


def main(path: str, *modules: str) -> None:
    """Imports modules, then prints what each function of the loader answers: None or its error.

    Args:
        path: libtensorflow_framework.so.2; the loader searches packages beside its folder.
        modules: What to import before.
    """
    for name in modules:
        importlib.import_module(name)
    with Path(path).open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        pattern = rb"_ZN3tsl8internal9DsoLoader\d+(?:Get\w+?DsoHandle|MaybeTryDlopen\w+?)Ev"
        symbols = sorted({name.decode() for name in re.findall(pattern, content)})
    loader = ctypes.CDLL(path)
    answers: dict[str, str | None] = {}
    for symbol in symbols:
        status = (ctypes.c_uint64 * 8)()  # absl's: 1 is OK, else a pointer to the message
        getattr(loader, symbol)(status)
        name = re.sub(r".*DsoLoader\d+(Get)?|(DsoHandle)?Ev$", "", symbol)
        answers[name] = None
        if status[0] != 1:
            text, length = (ctypes.c_uint64.from_address(status[0] + at).value for at in (8, 16))
            answers[name] = ctypes.string_at(text, length).decode()
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
