"""A line of metrics.jsonl as TensorBoard reads it."""

from typing import Any

import tensorflow as tf

from data_pipeline.platform.storage import Storage


def write_tensorboard(record: dict[str, Any], run: Storage, key: str) -> None:
    """Writes a record's numbers as scalars by the run's step, in an event file of their own.

    Object storage cannot append; TensorBoard reads the event files of a folder one by one, in the
    order of their names, and so finds a new one while it is open.
    """
    event, summary = tf.compat.v1.Event, tf.compat.v1.Summary
    values = [
        summary.Value(tag=f"{record['phase']}/{name}", simple_value=value)
        for name, value in record.items()
        if isinstance(value, (int, float)) and name not in ("step", "time")
    ]
    time = record["time"]
    events = (
        event(wall_time=time, file_version="brain.Event:2"),
        event(wall_time=time, step=record["step"], summary=summary(value=values)),
    )
    with (
        run.stage(key) as staged,
        tf.io.TFRecordWriter(str(staged.path)) as writer,
    ):
        for one in events:
            writer.write(one.SerializeToString())
