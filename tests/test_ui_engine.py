"""One base in memory for all pages, and a fair line before it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from qa_lora import runs
from qa_lora.answering import Answerer
from qa_lora.config import TrainConfig
from qa_lora.data.example import QAExample
from qa_lora.errors import ModelError
from qa_lora.ui.engine import Engine, Job, Order
from qa_lora.ui.jobs import work
from qa_lora.ui.line import Line
from tests.lively import make_adapter, make_model


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("lively-t5"))


def make_run(engine: Engine, model: Path, seed: int) -> runs.Run:
    config = TrainConfig.build(model=str(model), precision="fp32", name=f"r{seed}")
    run = runs.create(config, engine.runs_dir)
    make_adapter(model, run.adapter, seed=seed)
    engine.forget_list()
    return run


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = Engine(tmp_path / "runs")
    made.warm = True  # the libraries are there
    return made


def test_the_base_stays_while_adapters_come_and_go(engine, model, tiny_model, tmp_path):
    one, two = make_run(engine, model, 1), make_run(engine, model, 2)
    folder = str(make_adapter(model, tmp_path / "foreign", seed=3))
    first = engine.answerer(one)
    base = first.model.get_base_model()
    assert engine.answerer(one, [two.id, folder]) is first
    assert first.systems == ("base", "tuned", two.id, folder)
    before = first.answer("Why?", variant=two.id).text
    second = engine.answerer(two, [one.id])
    assert second.model.get_base_model() is base
    assert second.systems == ("base", "tuned", one.id)
    assert sorted(second.model.peft_config) == ["default", "more000"]
    assert second.answer("Why?").text == before
    make_adapter(model, one.adapter, seed=4)  # trained on
    again = engine.answerer(two, [one.id])
    assert again is second
    assert again.answer("Why?", variant=one.id).text == engine.answerer(one).answer("Why?").text
    other = make_run(engine, tiny_model, 5)
    with pytest.raises(ModelError, match="belongs on"):
        engine.answerer(one, [other.id])
    assert engine.answerer(one).systems == ("base", "tuned")
    assert engine.answerer(other).base == str(tiny_model)


def test_not_more_adapters_are_kept_than_fit(engine, model, monkeypatch):
    monkeypatch.setattr("qa_lora.ui.resident.MOST_ADAPTERS", 1)
    one, *others = (make_run(engine, model, seed) for seed in range(1, 4))
    names = [run.id for run in others]
    assert engine.answerer(one, names).systems == ("base", "tuned", *names)
    assert engine.answerer(one, names[:1]).systems == ("base", "tuned", names[0])
    engine.jobs[one.id] = Job(one.id, "answering")
    assert engine.answerer(one, names[1:]).systems == ("base", "tuned", *names)


def test_what_is_being_scored_stays_as_it_was_until_the_scoring_ends(engine, model):
    one, two = make_run(engine, model, 1), make_run(engine, model, 2)
    job = engine.jobs[one.id] = Job(one.id, "loading")
    first = engine.answerer(one, [two.id])
    job.state = "answering"

    def said(answerer: Answerer) -> list[str]:
        return [answerer.answer("Why?", variant=name).text for name in ("tuned", two.id)]

    before = said(first)
    for run, seed in ((one, 3), (two, 4)):  # trained on
        make_adapter(model, run.adapter, seed=seed)
    assert engine.answerer(one, [two.id]) is first
    assert said(first) == before
    job.state = "loading"  # the next scoring gets what is newest
    newest = said(engine.answerer(one, [two.id]))
    assert newest[0] != before[0] and newest[1] != before[1]


def test_who_still_has_an_adapter_that_was_removed_is_not_answered_by_another(engine, model):
    one, two = make_run(engine, model, 1), make_run(engine, model, 2)
    answerer = engine.answerer(one)
    examples = [QAExample("", question, "") for question in ("Why?", "Who?")]
    answerer.add(two, name="more")
    asked = answerer.answer_many(examples, systems=["more"], batch_tokens=1)
    next(asked)
    answerer.remove("more")
    answerer.add(two, name="more")
    with pytest.raises(ModelError, match="no adapter"):
        next(asked)


def test_a_split_is_given_also_when_another_page_clears_those_that_are_kept(engine, model, qa_csv):
    class Cleared(dict):
        def __setitem__(self, name: str, split: object) -> None:
            """As if another page came in between."""

    config = TrainConfig.build(model=str(model), data=str(qa_csv))
    engine._splits = Cleared()
    assert engine.split(runs.create(config, engine.runs_dir)).test


# --- the line ---


def test_first_come_first_served():
    line = Line()
    tickets = [line.enter() for _ in range(4)]
    assert [ticket.place for ticket in tickets] == [0, 1, 2, 3]
    assert [ticket.ready() for ticket in tickets] == [True, False, False, False]
    tickets[1].leave()  # a page was closed
    assert [tickets[i].place for i in (0, 2, 3)] == [0, 1, 2]
    came: list[int] = []

    def wait(i: int) -> None:
        with tickets[i] as ticket:
            assert ticket.ready(None)
            came.append(i)

    threads = [threading.Thread(target=wait, args=(i,)) for i in (3, 2)]
    for thread in threads:
        thread.start()
    assert not tickets[2].ready(0.05) and came == []
    tickets[0].leave()
    for thread in threads:
        thread.join()
    assert came == [2, 3]
    tickets[0].leave()
    with pytest.raises(RuntimeError, match="left"):
        tickets[0].ready()
    assert line.enter().ready()


def test_an_error_in_ones_turn_ends_it():
    line = Line()
    with pytest.raises(ValueError, match="broken"), line.enter():
        raise ValueError("broken")
    assert line.enter().place == 0


def test_a_run_that_is_being_scored_can_be_asked_meanwhile(engine, model):
    one, two = make_run(engine, model, 1), make_run(engine, model, 2)
    with engine.enter_line(one) as turn:
        assert turn.ready()
        engine.answerer(one)
        engine.jobs[one.id] = Job(one.id, "answering")
        with engine.enter_line(one) as beside, engine.enter_line(two) as behind:
            assert beside.ready() and not behind.ready()
            with engine.enter_line(one) as second:
                assert second.place == 1 and behind.place == 1
    assert engine.enter_line(two).ready()


def test_who_asks_beside_a_scoring_is_through_before_the_next_has_the_model(engine, model):
    one, two = make_run(engine, model, 1), make_run(engine, model, 2)
    scoring = engine.enter_scoring()
    assert scoring.ready()
    answerer = engine.answerer(one)
    job = engine.jobs[one.id] = Job(one.id, "answering")
    beside = engine.enter_line(one)
    behind = engine.enter_line(two)

    def end() -> None:
        with scoring:
            engine.end_scoring(job, "done")

    thread = threading.Thread(target=end)
    thread.start()
    while job.busy:
        time.sleep(0.002)
    assert beside.ready() and not behind.ready(0.05)
    with engine.enter_line(one) as late:
        assert late.place == 2  # behind the other, not beside what has ended
    assert answerer.answer("Why?") is not None
    beside.leave()
    assert behind.ready(None)
    thread.join()
    behind.leave()


def test_an_answerer_that_was_closed_says_so(engine, model):
    one, two = make_run(engine, model, 1), make_run(engine, model, 2)
    answerer = engine.answerer(one)
    engine.answerer(two)
    for system in ("base", "tuned"):
        with pytest.raises(ModelError, match="closed meanwhile"):
            answerer.answer("Why?", variant=system)
        with pytest.raises(ModelError, match="closed meanwhile"):
            list(answerer.answer_many([QAExample("", "Why?", "")], systems=[system]))


def test_a_scoring_that_fails_says_why_before_it_says_that_it_has(engine, model, monkeypatch):
    one = make_run(engine, model, 1)
    errors = []
    ended = engine.end_scoring
    monkeypatch.setattr(
        engine, "end_scoring", lambda job, state: (errors.append(job.error), ended(job, state))
    )
    job = Job(one.id)
    work(engine, job, one, Order(file=Path("nowhere.csv")))
    assert job.state == "failed" and errors == [job.error] and "nowhere" in job.error
    assert engine.enter_scoring().ready()
