"""Workers hang where a rank is silent, or where none moves though there is work."""

import os
import subprocess
import sys

from components.jobs.watchdog import Watchdog, seen_from_outside, stacks


def heard(dog: Watchdog, now: float, **beats: int) -> None:
    for name, number in beats.items():
        rank = int(name.removeprefix("rank"))
        dog.word(rank, 100 + rank, "node", beats=number, now=now)


def test_a_silent_rank_is_named_whether_there_is_work_or_not() -> None:
    for working in (True, False):
        dog = Watchdog(120.0)
        heard(dog, 0.0, rank0=0, rank1=0)
        for now in range(0, 121, 2):
            heard(dog, float(now), rank0=now)
            assert dog.hanging(float(now), working=working) is None
        heard(dog, 121.0, rank0=121)
        why = dog.hanging(121.0, working=working)
        assert why == "rank 1 (process 101) is silent since 121 s"
        assert dog.silent(121.0) == [1]


def test_ranks_that_are_heard_but_do_not_move_hang() -> None:
    dog = Watchdog(120.0)
    for now in range(0, 122, 2):
        heard(dog, float(now), rank0=5, rank1=7)
        why = dog.hanging(float(now), working=True)
    assert why is None
    heard(dog, 123.0, rank0=5, rank1=7)
    assert "no rank made a step for 123 s" in str(dog.hanging(123.0, working=True))


def test_without_work_nobody_has_to_move() -> None:
    dog = Watchdog(10.0)
    for now in range(0, 1000, 2):
        heard(dog, float(now), rank0=5)
        assert dog.hanging(float(now), working=False) is None
    # The time to the first step is counted from where the work began.
    for now in range(1000, 1010, 2):
        heard(dog, float(now), rank0=5)
        assert dog.hanging(float(now), working=True) is None


def test_long_steps_are_expected_where_they_were_long_before() -> None:
    dog, beats = Watchdog(10.0), 0
    for now in range(0, 200, 2):
        beats += now % 8 == 0  # a step in 8 s
        heard(dog, float(now), rank0=beats)
        assert dog.hanging(float(now), working=True) is None
    last = 192.0
    heard(dog, last + 25, rank0=beats)
    assert dog.hanging(last + 25, working=True) is None
    heard(dog, last + 27, rank0=beats)
    assert dog.hanging(last + 27, working=True) is not None


def test_another_process_of_the_rank_begins_anew() -> None:
    dog = Watchdog(10.0)
    dog.word(0, 1, "node", beats=50, now=0.0)
    dog.word(0, 2, "node", beats=0, now=100.0)
    assert dog.hanging(105.0, working=False) is None


def test_stacks_name_this_function() -> None:
    assert "test_stacks_name_this_function" in stacks()


def test_of_a_process_that_cannot_answer_the_system_tells() -> None:
    import signal

    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        seen = seen_from_outside(process.pid)
        process.kill()
    assert "T (stopped)" in seen
    assert seen_from_outside(process.pid) == "no such process on this machine"
