"""Runs a job as `python -m jobs.NAME` does. Its driver must not ask TensorFlow for devices."""

import runpy
import sys

OPENED = 99


def check_devices() -> None:
    """Exits with OPENED if this process has asked TensorFlow for its devices, as tensors do."""
    module = sys.modules.get("tensorflow.python.eager.context")
    context = module and module._context
    if context and (context._physical_devices is not None or context._context_handle):
        print("the driver has asked TensorFlow for its devices", file=sys.stderr)
        sys.exit(OPENED)


if __name__ == "__main__":
    del sys.argv[0]
    try:
        runpy.run_module(f"jobs.{sys.argv[0]}", run_name="__main__", alter_sys=True)
    finally:
        check_devices()
