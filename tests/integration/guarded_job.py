"""Runs a job as `python -m jobs.NAME` does. Its driver must not import TensorFlow."""

import runpy
import sys

LOADED = 99


def check_modules() -> None:
    """Exits with LOADED if this process has imported TensorFlow, which could open a GPU."""
    if "tensorflow" in sys.modules:
        print("the driver has imported TensorFlow", file=sys.stderr)
        sys.exit(LOADED)


if __name__ == "__main__":
    del sys.argv[0]
    try:
        runpy.run_module(f"jobs.{sys.argv[0]}", run_name="__main__", alter_sys=True)
    finally:
        check_modules()
