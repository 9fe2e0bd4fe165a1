import os

import pytest

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.fanout import TaskFailedError, as_task, fan_out, fan_out_unordered
from data_pipeline.platform.storage import UnusableStorageError

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
    assert str(third).startswith(
        "the process was killed or crashed; most often its memory was full; "
    )
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


def test_a_bucket_that_cannot_be_used_ends_all_at_once(tmp_path):
    def work(number):
        (tmp_path / str(number)).touch()
        raise UnusableStorageError("s3://b: refuses the credentials; renew them")

    with pytest.raises(UnusableStorageError, match=r"^s3://b: refuses the credentials"):
        fan_out(work, **arguments(*range(100)), label="test", unit="calls")
    assert len(list(tmp_path.iterdir())) < 30  # those in flight


def test_no_calls_need_no_ray():
    assert fan_out(lambda: None, [], total=0, label="test", unit="calls") == []


def test_a_mistake_in_a_task_that_another_one_needs_is_a_value():
    def read(value):
        if value == 2:
            raise UserError("a.png: is damaged")
        return value

    first, second = as_task(read), as_task(lambda value: 10 * value)
    found = dict(
        fan_out_unordered(
            lambda value: second(first(value)), **arguments(1, 2), label="test", unit="calls"
        )
    )
    assert found[0] == 10
    assert isinstance(found[1], UserError)
    assert found[1].problems == ("a.png: is damaged",)
