"""Who hangs and who is slow: decided from what workers told, by a clock in here."""

import pytest

from srgan.training.pulse import Beat, Pace, Place, own_seconds
from srgan.training.watchdog import Seen, Signs, describe_slowest, find_stalls

LIMIT = 600.0
HOUR = 3600.0


def beat(rank: int, place: Place = Place.CALL, step: int = 20, **more) -> Beat:
    return Beat(rank, f"10.0.0.{rank}", f"node{rank}", 100 + rank, "", place, step, **more)


def seen(*workers: tuple[Beat, float], silent: float = 1.0) -> list[Seen]:
    """Workers that send beats, each with the seconds since it moved."""
    return [Seen(one, silent, still) for one, still in workers]


def ranks(workers: list[Seen]) -> list[int]:
    return [stall.beat.rank for stall in find_stalls(workers, LIMIT)]


@pytest.mark.parametrize(
    ("place", "longest_call", "patience"),
    [
        (Place.CALL, 0.0, LIMIT),
        (Place.CALL, 1000.0, 2000.0),  # a slow CPU
        (Place.BETWEEN, 1000.0, LIMIT),
        (Place.SETUP, 0.0, HOUR),  # restoring, the first shards
        (Place.FIRST_CALL, 0.0, HOUR),  # a long compile
    ],
)
def test_workers_at_one_place_hang_when_its_time_is_over(place, longest_call, patience):
    beats = [beat(rank, place, longest_call=longest_call) for rank in (0, 1)]
    assert ranks(seen(*((one, patience) for one in beats))) == []
    assert ranks(seen((beats[0], patience + 1), (beats[1], 1))) == []
    assert ranks(seen(*((one, patience + 1) for one in beats))) == [0, 1]


def test_a_long_save_of_the_first_worker_is_no_stall():
    """The others wait for it in their next call."""
    saving, others = beat(0, Place.SAVE), [beat(1), beat(2)]
    assert ranks(seen((saving, HOUR), *((one, HOUR) for one in others))) == []
    assert ranks(seen((saving, HOUR + 1), *((one, HOUR + 1) for one in others))) == [0]


@pytest.mark.parametrize(
    "culprit", [beat(1, Place.BETWEEN, 20), beat(1, Place.CALL, 10), beat(1, Place.BETWEEN, 10)]
)
def test_the_worker_for_which_the_others_wait_in_a_call_is_named(culprit):
    workers = seen((beat(0), 700), (culprit, 650), (beat(2), 700))
    (stall,) = find_stalls(workers, LIMIT)
    assert str(stall) == (
        f"worker 1 (process 101 on node 10.0.0.1) hangs: "
        f"at step {culprit.step} {culprit.place.value} for 650 s"
    )


def test_a_worker_without_a_sign_of_life_is_named_wherever_it_was():
    for place in Place:
        stopped = Seen(beat(1, place), silent=601, still=601)
        (stall,) = find_stalls([*seen((beat(0), 601)), stopped], LIMIT)
        assert str(stall).endswith(
            f": no sign of life for 601 s, last seen at step 20 {place.value}"
        )
        assert stall.beat.rank == 1
        assert ranks([*seen((beat(0), 1)), stopped._replace(silent=600)]) == []


def test_nobody_hangs_where_nobody_trains():
    assert find_stalls([], LIMIT) == []


def test_signs_tell_how_long_a_worker_is_silent_and_still():
    signs = Signs()
    signs.note_beat(beat(0), 10)
    signs.note_beat(beat(1), 11)
    signs.note_beat(beat(0), 12)
    signs.note_beat(beat(1, step=30), 13)
    assert signs.seen(15) == [Seen(beat(0), 3, 5), Seen(beat(1, step=30), 2, 2)]
    signs.leave(1)
    assert [one.beat.rank for one in signs.seen(15)] == [0]


def test_new_workers_replace_all_that_were_known():
    """Ray Train starts fewer workers after a node is lost: nobody waits for the missing ones."""
    signs = Signs()
    for rank in (0, 1, 2):
        signs.note_beat(beat(rank), 10)
    signs.note_pace(pace(0, 1))
    signs.note_beat(beat(0)._replace(pid=999), 20)
    assert signs.seen(20) == [Seen(beat(0)._replace(pid=999), 0, 0)]
    assert signs.note_pace(pace(1, 1)) == signs.note_pace(pace(2, 1)) == []


def pace(rank: int, own: float, workers: int = 3, seconds: float = 100.0) -> Pace:
    return Pace("gan epoch 3", workers, beat(rank), own, seconds)


def test_an_epoch_is_judged_once_when_all_have_ended_it():
    signs = Signs()
    assert signs.note_pace(pace(0, 1)) == signs.note_pace(pace(2, 1)) == []
    assert signs.note_pace(pace(1, 1)) == [pace(0, 1), pace(2, 1), pace(1, 1)]
    assert signs.note_pace(pace(1, 1)) == []


def test_a_workers_own_seconds():
    """Waits for data and Python between calls; calls and saves are not its own."""
    sums = {"seconds": 100.0, "call_seconds": 80.0, "data_wait_seconds": 7.0, "save_seconds": 15.0}
    assert own_seconds(sums) == 12
    del sums["save_seconds"]
    assert own_seconds(sums) == 27


@pytest.mark.parametrize(
    ("own", "seconds", "is_named"),
    [
        ([2, 3, 20], 100.0, True),  # 17.5 s more than the others: 82.5 s become 100
        ([2, 3, 19], 100.0, False),  # 16.5 s: 83.5 s become 100
        ([20, 20, 20], 100.0, False),  # none is behind
        ([0.1, 0.1, 0.9], 1.0, False),  # noise
        ([5, 90], 100.0, True),
        ([90], 100.0, False),
    ],
)
def test_the_slowest_worker_is_named_when_it_is_20_percent_behind(own, seconds, is_named):
    paces = [pace(rank, value, len(own), seconds) for rank, value in enumerate(own)]
    line = describe_slowest(paces)
    assert (line is not None) == is_named
    if line and len(own) == 3:
        assert line == (
            "gan epoch 3: worker 2 (process 102 on node 10.0.0.2) was the slowest: of 100.0 s it "
            "took 20.0 s to wait for data and between calls, the others 2.5 s"
        )
