"""Errors that a job reports in one line, without a traceback."""

from collections.abc import Mapping
from typing import Any


class UserError(Exception):
    """Wrong input. Every argument is one line: what, where, and the fix. Most have one.

    Jobs print it to stderr without a traceback and exit with code 2.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        """The lines."""
        return self.args

    def __str__(self) -> str:
        return "; ".join(self.args)


class JobFailedError(Exception):
    """Any other failure that one line explains; the traceback is in the log. Exit code 1."""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One `key: old, now new` for each key whose values differ, sorted by key."""
    return [
        f"{key}: {old.get(key)}, now {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
