"""What a night judges, and tells once: to the log, the webhook and the history.

A limit that a generator breaks is told once, and posted to a webhook once. Both are done again if
another generator breaks it.
"""

import datetime
import logging
from collections.abc import Sequence

from srgan.evaluation.alerts import Alert, Limits, dropped, too_low
from srgan.evaluation.history import told_limits, write_record
from srgan.evaluation.results import RunEvaluation, on_same_images
from srgan.evaluation.run_reader import generator_name
from srgan.evaluation.table import SRGAN, epochs_of
from srgan.evaluation.webhook import post_json

_log = logging.getLogger(__name__)


def judge(
    judged: RunEvaluation,
    epochs: Sequence[int] | None,
    limits: Limits,
    reference: RunEvaluation | None,
) -> tuple[int | None, list[Alert]]:
    """The newest epoch, of those asked for, and the limits that it breaks; None if there is none.

    Drops from another run compare means over the images that both runs have finite values of.
    """
    same, *others = on_same_images([judged, *([reference] if reference else [])])
    scored = epochs_of(judged.means)
    epoch = max((one for one in scored if not epochs or one in epochs), default=None)
    other = others[0].table_run() if others else None
    return epoch, [
        *too_low(judged.means, epoch, limits.below),
        *dropped(same.means, epoch, limits.drop, other),
    ]


def tell_alerts(
    judged: RunEvaluation,
    epoch: int | None,
    alerts: Sequence[Alert],
    *,
    data_set: str,
    alert_url: str | None,
) -> list[str]:
    """Tells the alerts that were not told before, and adds the evaluation to the history.

    An alert is posted until a webhook has got it, also if an evaluation without a webhook told it.
    A new alert that could not be posted counts as not told: the next evaluation tells it again.

    Args:
        judged: The evaluation, with its scores.
        epoch: The epoch of the generator that was judged; None if there is none.
        alerts: From `too_low` and `dropped`.
        data_set: The name of the images.
        alert_url: A webhook, which gets as JSON the alerts that none got before.

    Returns:
        A line for each alert that is new.

    Raises:
        UserError: If a record of the history is damaged.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    generator = judged.files[generator_name(epoch)].generator_sha256 if epoch is not None else ""
    told, posted = told_limits(judged.out, generator) if alerts else ({}, set())
    new = [alert for alert in alerts if alert.limit not in told]
    for alert in new:
        _log.warning("alert: %s", alert.text)
    if old := [alert for alert in alerts if alert.limit in told]:
        dates = ", ".join(sorted({told[alert.limit] for alert in old}))
        _log.info("already told on %s: %s", dates, "; ".join(alert.text for alert in old))
    to_post = [alert for alert in alerts if alert.limit not in posted] if alert_url else []
    is_posted = False
    if alert_url and to_post:
        texts = [alert.text for alert in to_post]
        run = judged.run.storage.uri if judged.run else ""
        content = {
            "text": f"{run}, {data_set}: {'; '.join(texts)}",  # what chats show
            "run": run,
            "data_set": data_set,
            "epoch": epoch,
            "alerts": texts,
            "values": {key: round(value, 4) for key, value in judged.means[SRGAN, epoch].items()},
            "results": judged.out.uri,
            "time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        }
        is_posted = post_json(alert_url, content)
    write_record(
        judged.out,
        now,
        judged.means,
        epoch=epoch,
        generator=generator,
        alerts=alerts,
        told=new if is_posted or not to_post else [],
        posted=to_post if is_posted else [],
    )
    return [alert.text for alert in new]
