from __future__ import annotations

import threading

import pytest

from qa_lora.following import follow


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "followed"]


def test_what_is_told_comes_in_order():
    def work(tell, left):
        for item in (1, None, "x"):
            tell(item)

    assert list(follow(work, name="followed")) == [1, None, "x"]
    assert threads() == []


def test_an_error_comes_after_what_was_told():
    def work(tell, left):
        tell(1)
        raise KeyError("x")

    stream = follow(work, name="followed")
    assert next(stream) == 1
    with pytest.raises(KeyError):
        next(stream)
    assert threads() == []


def test_an_exception_that_is_told_is_an_item():
    told = ValueError("just an item")
    assert list(follow(lambda tell, left: tell(told), name="followed")) == [told]


def test_leaving_is_noticed_and_waited_for():
    ended = threading.Event()

    def work(tell, left):
        while not left():
            tell(1)
        ended.set()

    stream = follow(work, name="followed")
    next(stream)
    stream.close()
    assert ended.is_set()
    assert threads() == []


def test_nothing_runs_before_the_first_step():
    started = []
    stream = follow(lambda tell, left: started.append(1), name="followed")
    assert not started
    assert list(stream) == []
    assert started
