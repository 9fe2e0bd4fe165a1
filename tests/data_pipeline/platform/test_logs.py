"""Every line of a job's log has the time, in the driver and where Ray set up the log before."""

import subprocess
import sys

from tests.conftest import ROOT

LINES = """
import logging
from logging import FileHandler, StreamHandler
from ray._private.log import PlainRayHandler
from data_pipeline.platform.logs import configure_logging
file = FileHandler({path!r})
{before}
for _ in range(2):  # a process that logs is never configured twice over
    configure_logging()
logging.getLogger("job").info("a line")
logging.getLogger("boto3").info("not shown")
"""


def test_a_line_has_the_time_once(tmp_path):
    for name, before in (("driver", ""), ("worker", "[PlainRayHandler(), file]")):
        path = tmp_path / name
        code = LINES.format(
            path=str(path), before=f"logging.getLogger().handlers = {before}" if before else ""
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        (line,) = done.stderr.splitlines()
        clock, text = line.split(" ", 1)
        assert [len(part) for part in clock.split(":")] == [2, 2, 2]
        assert text == "a line"
        assert path.read_text() == ("a line\n" if before else "")
