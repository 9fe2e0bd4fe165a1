"""Errors that a job reports in one line, without a traceback."""


class UserError(Exception):
    """Wrong input. The message is one line: what, where, and the mend.

    Jobs print it to stderr without a traceback and exit with code 2.
    """


class JobFailedError(Exception):
    """Anything else that one line explains; the traceback is in the log. Exit code 1."""
