"""Keras's folder: the settings in a user's keras.json would change a run's results."""

import os

_VARIABLE = "KERAS_HOME"

# The user's own folder, for this process's children and for itself, started anew.
_OWN = "SRGAN_KERAS_HOME"

# Keras finds no settings there and can leave none, on any node and for any user.
_NOWHERE = os.devnull


def hide_settings() -> str:
    """Makes Keras read no keras.json: layout of images, number format, epsilon, backend.

    Call it before Keras is imported.

    Returns:
        The user's own folder of Keras, for downloads.
    """
    own = os.environ.get(_OWN) or os.environ.get(_VARIABLE) or os.path.expanduser("~/.keras")
    os.environ |= {_OWN: own, _VARIABLE: _NOWHERE}
    return own
