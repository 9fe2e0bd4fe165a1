"""Why a run ends: of all that workers raise, the one line that explains it."""

import errno

import pytest
import tensorflow as tf
from ray.exceptions import OutOfMemoryError

from data_pipeline.platform.errors import JobFailedError, UserError
from srgan.training.failures import NonFiniteError, describe, first_cause, is_foreseen
from tests.data_pipeline.platform.test_deaths import DiedError


def test_a_users_mistake_that_a_worker_finds_is_a_user_error():
    failure = describe(UserError("raise SRGAN_CACHE_GB"))
    assert isinstance(failure.error, UserError)
    assert str(failure.error) == "raise SRGAN_CACHE_GB"
    assert failure.is_final
    other = describe(ValueError("x"))
    assert isinstance(other.error, JobFailedError)
    assert str(other.error) == "training failed: ValueError: x"


def test_a_worker_that_was_ended_for_memory_is_told_in_one_line():
    text = "Memory on the node (IP: 10.0.0.7, ID: 1d) was 2.8GB used / 3.0GB limit (0.9)\n..."
    failure = describe(OutOfMemoryError(text))
    assert str(failure.error) == (
        "training failed: the memory of node 10.0.0.7 was full (2.8GB of 3.0GB), and Ray ended the "
        "process; lower batch.global_batch, or use nodes with more memory; the same command goes "
        "on from the last checkpoint"
    )
    assert not failure.is_final


def test_a_lost_node_is_told_in_one_line():
    text = "The actor died.\n\tip: 10.0.0.7\nThe actor is dead because its node has died. ..."
    failure = describe(DiedError(text))
    assert str(failure.error) == "training failed: node 10.0.0.7 was lost"
    assert not failure.is_final


@pytest.mark.parametrize(
    ("error", "foreseen"),
    [
        (UserError("raise SRGAN_CACHE_GB"), True),
        (NonFiniteError("mse is nan"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (tf.errors.UnavailableError(None, None, "recvmsg: reset"), True),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), False),
        (ValueError("x"), False),
    ],
)
def test_only_what_nobody_foresaw_has_a_traceback(error, foreseen):
    assert is_foreseen(error) == foreseen


def test_the_error_is_of_the_worker_that_failed_and_not_of_one_that_lost_it():
    lost = describe(
        tf.errors.UnavailableError(None, None, "Graph execution error:\n\nrecvmsg: reset")
    )
    full = describe(
        tf.errors.ResourceExhaustedError(
            None,
            None,
            "Graph execution error:\n\nDetected at node conv defined at (most recent call last):\n"
            '  File "step.py", line 9\n\nOOM when allocating tensor with shape[16,64]\n'
            "\t [[{{conv}}]]",
        )
    )
    assert first_cause([lost, full]) is full
    assert str(full.error) == (
        "training failed: ResourceExhaustedError: OOM when allocating tensor with shape[16,64]"
    )
    assert str(lost.error) == "training failed: UnavailableError: recvmsg: reset"


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), True),
        (tf.errors.UnavailableError(None, None, "recvmsg: reset"), False),
    ],
)
def test_a_run_ends_at_once_where_a_restart_does_not_help(error, is_final):
    assert describe(error).is_final == is_final
