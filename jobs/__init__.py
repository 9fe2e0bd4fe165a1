"""The commands: each reads its arguments, calls one function and exits with its code."""

import os

# Ray, Keras and TensorFlow read these when they are first imported: set them before any other
# import. Some are the product's own choice, and a shell that sets them otherwise is overruled.
os.environ.update(
    KERAS_BACKEND="tensorflow",
    TF_USE_LEGACY_KERAS="0",
    RAY_TRAIN_V2_ENABLED="1",
)
# How often Ray runs a task again that it ended for memory, after 1, 2, 4, 8 and 16 seconds. Its own
# default is without end.
os.environ.setdefault("RAY_task_oom_retries", "5")
# Of many tasks that fail, the job tells one; Ray would print the tracebacks of the others.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault(
    "RAY_DEDUP_LOGS_SKIP_REGEX",
    # TensorFlow's start-up notes, which no log level silences; what the job says itself.
    r"absl::InitializeLog|port\.cc:\d+\] oneDNN|cudart_stub\.cc|failed call to cuInit"
    r"|A worker died or was killed while executing a task by an unexpected system error"
    r"|Failed to query Ray Train Controller actor state|core_worker\.cc:\d+: Actor with class name"
    r"|MirroredStrategy` is not supported in eager mode|Using MirroredStrategy with devices",
)
