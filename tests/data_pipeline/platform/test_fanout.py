import os
import subprocess
import sys

import pytest

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.fanout import TaskFailedError, fan_out
from tests.conftest import PATIENCE, ROOT

pytestmark = pytest.mark.usefixtures("ray_local")


def arguments(*values):
    return {"arguments": [(value,) for value in values], "total": len(values)}


def test_results_come_in_order_and_failures_do_not_end_the_rest():
    def work(value):
        if value == 2:
            raise KeyError("two\nlines")
        if value == 3:
            os._exit(1)
        return 10 * value

    first, second, third, fourth = fan_out(
        work, **arguments(1, 2, 3, 4), label="test", unit="calls"
    )
    assert (first, fourth) == (10, 40)
    assert isinstance(second, TaskFailedError)
    assert isinstance(third, TaskFailedError)
    assert "KeyError: 'two" in str(second)
    assert "Crashed" in str(third)
    assert "\n" not in str(second) + str(third)


def test_a_users_mistake_is_a_value_at_once_and_the_others_go_on(tmp_path):
    class TwoMistakesError(UserError):
        def __init__(self, *mistakes):
            super().__init__(*mistakes)
            self.mistakes = mistakes

    def work(value):
        if value == 2:
            (tmp_path / str(len(list(tmp_path.iterdir())))).touch()
            raise TwoMistakesError("a.png: is damaged", "b.png: is too small")
        return value

    first, second, third = fan_out(work, **arguments(1, 2, 3), label="test", unit="calls")
    assert (first, third) == (1, 3)
    assert isinstance(second, UserError)
    assert second.mistakes == ("a.png: is damaged", "b.png: is too small")
    assert len(list(tmp_path.iterdir())) == 1  # trying again cannot help


def test_what_may_work_the_next_time_is_run_again(tmp_path):
    def work(path):
        attempts = len(list(path.iterdir()))
        (path / str(attempts)).touch()
        if attempts < 2:
            raise JobFailedError("the server keeps failing")
        return attempts

    assert fan_out(work, **arguments(tmp_path), label="test", unit="calls") == [2]


def test_after_many_failures_in_a_row_the_rest_is_not_tried(tmp_path):
    def work(number):
        (tmp_path / str(number)).touch()
        raise ValueError(f"call {number}")

    results = fan_out(work, **arguments(*range(100)), label="test", unit="calls")
    assert all(isinstance(result, TaskFailedError) for result in results)
    tried = len(list(tmp_path.iterdir()))
    assert 12 <= tried < 30  # three rounds of the tasks in flight on two cores
    assert sum("was not tried" in str(result) for result in results) == 100 - tried


def test_no_calls_need_no_ray():
    assert fan_out(len, [], total=0, label="test", unit="calls") == []


ON_TWO_GPUS = """
import os, ray, time
from data_pipeline.platform.fanout import fan_out_unordered
ray.init(address="local", num_cpus=3, num_gpus=2, include_dashboard=False)

def place(number):
    time.sleep(0.3)
    return os.getpid(), tuple(ray.get_gpu_ids()), os.environ.get("APART")

tasks = {"total": 5, "label": "test", "unit": "calls"}
on_cpu = [found for _, found in fan_out_unordered(place, [(n,) for n in range(5)], **tasks)]
found = dict(
    fan_out_unordered(
        place, [(n,) for n in range(5)], gpus=1, environment={"APART": "yes"}, **tasks
    )
)
assert sorted(found) == list(range(5))
assert {gpu for _, gpu, _ in found.values()} == {(0,), (1,)}, found
assert {apart for *_, apart in found.values()} == {"yes"}, found
by_process = {}
for process, gpu, _ in found.values():
    by_process.setdefault(process, set()).add(gpu)
assert all(len(gpus) == 1 for gpus in by_process.values()), found
assert not {process for process, *_ in on_cpu} & set(by_process), (on_cpu, found)
"""


@pytest.mark.slow
def test_a_process_sees_one_gpu_and_is_no_process_of_cpu_tasks():
    """TensorFlow keeps the devices that it finds first. The GPUs are declared, not real."""
    subprocess.run([sys.executable, "-c", ON_TWO_GPUS], cwd=ROOT, check=True, timeout=PATIENCE)
