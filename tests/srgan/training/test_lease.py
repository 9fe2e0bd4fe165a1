"""One trainer at a time holds a RUN, in a folder and in a bucket."""

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.training import lease as lease_module
from srgan.training.failures import LostRunError
from srgan.training.lease import hold_lease
from tests.conftest import PATIENCE, ROOT

HOLD = """
import sys, time
from data_pipeline.platform.storage import open_storage
from srgan.training.lease import hold_lease
with hold_lease(open_storage(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
ELSEWHERE = {
    "host": "node-7",
    "pid": 12,
    "since": "2026-01-02 03:04:05 UTC",
    "token": "t",
    "lock": "other.lease",
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(lease_module, "_SECONDS_BETWEEN_RENEWALS", 0.02)
    monkeypatch.setattr(lease_module, "_SECONDS_BETWEEN_LOOKS", 0.05)


@pytest.fixture(params=["folder", "bucket"])
def run(request, tmp_path):
    if request.param == "folder":
        return open_storage(str(tmp_path / "run"))
    return open_storage(f"s3://{request.getfixturevalue('bucket')}/runs/one")


def leases(run):
    return [item.key for item in run.list("lease/")]


def write_elsewhere(run, renewals=3):
    """The lease of a trainer on another node."""
    run.write("lease/000004.json", json.dumps(ELSEWHERE | {"renewals": renewals}).encode())


def test_a_second_trainer_is_refused_while_the_first_lives(run):
    with hold_lease(run):
        for _ in range(2):
            with pytest.raises(UserError) as error, hold_lease(run):
                pass
            message = str(error.value)
            assert message.startswith(f"{run.uri}: is being trained by process {os.getpid()} on ")
            assert message.endswith(" UTC; wait for it or stop it, or choose another --run")
    assert leases(run) == []
    with hold_lease(run) as lease:
        lease.check()
    assert leases(run) == []


def test_a_killed_trainer_of_this_node_is_replaced_without_waiting(run, monkeypatch, caplog):
    monkeypatch.setattr(lease_module, "_SECONDS_UNTIL_DEAD", 1e9)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, run.uri], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
    assert leases(run) == ["lease/000001.json"]
    with caplog.at_level(logging.INFO), hold_lease(run) as lease:
        lease.check()
        assert leases(run) == ["lease/000002.json"]
    assert "is dead: taken over" in caplog.text


def test_a_silent_trainer_of_another_node_is_replaced(run, monkeypatch, caplog):
    monkeypatch.setattr(lease_module, "_SECONDS_UNTIL_DEAD", 0.2)
    write_elsewhere(run)
    with caplog.at_level(logging.INFO), hold_lease(run):
        assert leases(run) == ["lease/000005.json"]
    assert "its trainer on node-7 is dead: taken over" in caplog.text


def test_a_trainer_of_another_node_that_renews_its_lease_lives(run, monkeypatch):
    monkeypatch.setattr(lease_module, "_SECONDS_UNTIL_DEAD", 1e9)
    write_elsewhere(run)
    ended = threading.Event()

    def renew():
        for renewals in itertools.count(4):
            write_elsewhere(run, renewals)
            if ended.wait(0.1):
                break

    renewing = threading.Thread(target=renew)
    renewing.start()
    expected = "by process 12 on node-7 since 2026-01-02 03:04:05 UTC; wait for it"
    try:
        with pytest.raises(UserError, match=expected), hold_lease(run):
            pass
    finally:
        ended.set()
        renewing.join()
    assert leases(run) == ["lease/000004.json"]


def test_of_many_at_once_never_two_hold_it(run, monkeypatch):
    monkeypatch.setattr(lease_module, "_SECONDS_UNTIL_DEAD", 0.3)
    write_elsewhere(run)
    inside, most, held = [], [], []

    def contend():
        try:
            with hold_lease(run):
                inside.append(1)
                held.append(1)
                for _ in range(20):
                    most.append(len(inside))
                    time.sleep(0.01)
                inside.pop()
        except UserError:
            pass

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held
    assert max(most) == 1
    assert leases(run) == []


def test_who_has_lost_the_run_is_told_and_does_not_take_it_back(run):
    with hold_lease(run) as lease:
        lease.check()
        write_elsewhere(run)  # number 4: a trainer that took this one for dead
        with pytest.raises(LostRunError, match="another training has taken it over"):
            lease.check()
        deadline = time.monotonic() + PATIENCE
        while leases(run) != ["lease/000004.json"] and time.monotonic() < deadline:
            time.sleep(0.05)
    assert leases(run) == ["lease/000004.json"]


def test_a_lease_names_no_file_outside_the_nodes_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(lease_module, "_SECONDS_UNTIL_DEAD", 0.1)
    run = open_storage(str(tmp_path / "run"))
    victim = tmp_path / "victim"
    victim.touch()
    run.write(
        "lease/000001.json", json.dumps({**ELSEWHERE, "renewals": 0, "lock": str(victim)}).encode()
    )
    with hold_lease(run):
        pass
    assert victim.exists()


def test_a_damaged_lease_is_named(run):
    run.write("lease/000001.json", b"{")
    with (
        pytest.raises(UserError, match=r"lease/000001\.json: is damaged; delete it if"),
        hold_lease(run),
    ):
        pass


def test_a_lease_of_the_same_number_is_not_ones_own(run):
    """One that slept while two others came and went, of which the second has its number."""
    with hold_lease(run) as first:
        run.delete("lease/000001.json")  # by a second one, which has ended since
        with hold_lease(run) as third:
            assert leases(run) == ["lease/000001.json"]
            with pytest.raises(LostRunError):
                first.check()
            first.remove()
            third.check()


def test_without_file_locks_a_silent_trainer_is_dead(run, monkeypatch):
    monkeypatch.setattr(lease_module, "_is_locked", lambda handle: False)
    monkeypatch.setattr(lease_module, "_SECONDS_UNTIL_DEAD", 0.2)
    with hold_lease(run):
        record = json.loads(run.read("lease/000001.json"))
    assert record["lock"] == ""
    run.write("lease/000001.json", json.dumps(record).encode())
    with hold_lease(run):
        assert leases(run) == ["lease/000002.json"]
