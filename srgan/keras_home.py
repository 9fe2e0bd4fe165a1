"""Keras's folder: the settings in a user's keras.json would change a run's results."""

import os

_VARIABLE = "KERAS_HOME"

# Keras finds no settings there and can leave none, on any node and for any user.
_NOWHERE = os.devnull


def hide_settings() -> str:
    """Makes Keras read no keras.json: layout of images, number format, epsilon, backend.

    Call it before Keras is imported.

    Returns:
        The user's own folder of Keras, for downloads.
    """
    found = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = _NOWHERE
    return found if found and found != _NOWHERE else os.path.expanduser("~/.keras")
