from __future__ import annotations

import threading

import pytest

from qa_lora.answering.fair_lock import FairLock


def test_whoever_waits_comes_before_one_who_had_it():
    lock, order = FairLock(), []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        with lock:
            order.append("waiter")

    thread = threading.Thread(target=wait)
    with lock:
        thread.start()
        waiting.wait()
        while not lock._gates:
            pass
    with lock:
        order.append("again")
    thread.join()
    assert order == ["waiter", "again"]
    assert not lock.locked()


def test_many_threads_never_have_it_at_once():
    lock, inside, most = FairLock(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            if not lock.acquire(timeout=0.0001):
                continue
            inside += 1
            most = max(most, inside)
            inside -= 1
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and not lock.locked() and not lock._gates


def test_waiting_ends_in_time_and_leaves_nothing():
    lock = FairLock()
    assert lock.acquire()
    assert not lock.acquire(timeout=0.01)
    lock.release()
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
    with pytest.raises(ValueError, match="broken"), lock:
        raise ValueError("broken")
    assert not lock.locked()
