"""A line of metrics.jsonl, and sample pictures as TensorBoard reads them."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from data_pipeline.images import Image, encode_png
from data_pipeline.platform.storage import Storage


def write_tensorboard(
    record: Mapping[str, Any], run: Storage, key: str, *, group: str, picture: Image | None = None
) -> None:
    """Writes a record's numbers and a picture by the run's step, in an event file of their own.

    A number's name does not depend on the phase, so it has one curve over the whole run.

    Object storage cannot append; TensorBoard reads the event files of a folder one by one, in the
    order of their names, and so finds a new one while it is open.

    Args:
        record: Of an epoch, with its `step` and `time`.
        run: RUN.
        key: From `tensorboard_key`.
        group: What the names begin with; TensorBoard shows a group together.
        picture: uint8 [H, W, 3], which is called `samples`.
    """
    event, summary = tf.compat.v1.Event, tf.compat.v1.Summary
    values = [
        summary.Value(tag=f"{group}/{name}", simple_value=value)
        for name, value in record.items()
        if isinstance(value, (int, float)) and name not in ("step", "time")
    ]
    if picture is not None:
        height, width, channels = picture.shape
        image = summary.Image(
            height=height,
            width=width,
            colorspace=channels,
            encoded_image_string=encode_png(picture),
        )
        values.append(summary.Value(tag=f"{group}/samples", image=image))
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
