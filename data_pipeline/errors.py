"""The one error that means: the user's input is wrong."""


class UserError(Exception):
    """Wrong input. The message is one line: what, where, and the mend.

    Jobs print it to stderr without a traceback and exit with code 2.
    """
