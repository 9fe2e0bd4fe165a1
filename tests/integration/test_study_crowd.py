"""Fifty raters at once, and a server that is killed in the middle."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest

from srgan.study.files import read_key, read_ratings
from tests.conftest import PATIENCE
from tests.srgan.study.made import made_study
from tests.srgan.study.serving import Client, serving

RATERS = 50

pytestmark = pytest.mark.slow


def test_no_acknowledged_rating_is_lost(tmp_path):
    study = made_study(tmp_path)
    trials = len(read_key(study).plans[0])
    acknowledged: dict[tuple[str, int], int] = {}
    is_half_done = threading.Event()

    def persist(action):
        """As the page does: again and again, until there is an answer."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                return action()
            except (OSError, HTTPException):
                time.sleep(0.05)
        raise TimeoutError

    def take_part(number):
        client = Client(port)
        rater = persist(client.join)["rater"]
        for trial in range(trials):
            answer = 1 + (number + trial) % 5
            body = {"trial": trial, "answer": answer, "milliseconds": 9}
            assert (
                persist(lambda body=body: client.get(f"/api/picture/{body['trial']}/0")).status
                == 200
            )
            reply = persist(lambda body=body: client.post("/api/rate", body))
            assert reply.status == 200, reply
            acknowledged[rater, trial] = answer
            if len(acknowledged) > RATERS * trials // 2:
                is_half_done.set()

    with ThreadPoolExecutor(RATERS) as pool:
        with serving(study) as server:
            port = server.port
            done = [pool.submit(take_part, number) for number in range(RATERS)]
            assert is_half_done.wait(PATIENCE)
            server.kill()
        before = dict(acknowledged)
        stored = {(one.rater, one.trial): one.answer for one in read_ratings(study, [])}
        assert before.items() <= stored.items()
        with serving(study, port=port):
            for one in done:
                one.result()
    ratings = read_ratings(study, [])
    assert len(before) < len(ratings) == len(acknowledged) == RATERS * trials
    assert {(one.rater, one.trial): one.answer for one in ratings} == acknowledged
    assert len({one.plan for one in ratings}) > RATERS // 2
