"""Streams: training begins with the first rows, and what comes later leaks nothing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Event as Gate
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import qa_lora.training as training
from qa_lora import runs
from qa_lora.batching import BUCKET_BATCHES, EncodedExample
from qa_lora.config import TrainConfig
from qa_lora.data import QAExample, begin, load_and_split, load_split, question_key, source_rows
from qa_lora.data.coming import FROM_FIRST_ROWS, Coming, Queue
from qa_lora.data.hub_tables import BATCH_ROWS
from qa_lora.errors import DataError, NonFiniteLossError
from qa_lora.estimate import row_lengths
from qa_lora.events import Event, Failed, Finished, Started, Step, StreamEnded
from qa_lora.training import train
from qa_lora.training_rows import ComingRows
from qa_lora.worker import execute

FIRST = 60
COLOURS = ("red", "blue", "green", "very dark yellow")


class Streams:
    """Stands for the far end: data sets of a Hub that are read as streams, and how far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        import datasets
        import huggingface_hub

        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.read: Counter[str] = Counter()
        self.opened = 0
        self.says: int | None = None
        """How many rows each has, as its card says."""
        self.breaks_at: int | None = None
        self.waits_at: int | None = None
        self.goes_on = Gate()
        monkeypatch.setattr(datasets, "load_dataset", self.load_dataset)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)

    def load_dataset(self, repo: str, *_: Any, streaming: bool = False, **__: Any) -> Any:
        import datasets

        assert streaming
        self.opened += 1

        def told() -> Iterator[dict[str, Any]]:
            for number, row in enumerate(self.rows[repo]):
                if number == self.breaks_at:
                    raise ConnectionError("the line is dead")
                if number == self.waits_at:
                    self.goes_on.wait()
                self.read[repo] += 1
                yield row

        rows = datasets.IterableDataset.from_generator(told)
        if self.says is not None:
            rows.info.splits = {"train": datasets.SplitInfo("train", num_examples=self.says)}
        return datasets.IterableDatasetDict({"train": rows})


def many(count: int, name: str = "thing") -> list[dict[str, Any]]:
    return [
        {
            "question": f"What colour is {name} {i}?",
            "answer": " ".join([COLOURS[i % 4]] * (1 + i % 5)),
        }
        for i in range(count)
    ]


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Streams:
    monkeypatch.setattr(source_rows, "FIRST_ROWS", FIRST)
    monkeypatch.setattr(source_rows, "ROWS_AT_ONCE", 25)
    made = Streams(monkeypatch, tmp_path)
    made.rows["me/long"] = many(200)
    return made


def settings(data: str = "me/long rows=200", **more: Any) -> TrainConfig:
    return TrainConfig.build(data=data, streaming=True, **more)


def keys(examples: Any) -> set[str]:
    return {question_key(e.question, e.context, e.history) for e in examples}


def test_held_out_questions_come_from_the_first_rows(streams: Streams) -> None:
    split = load_split(settings(validation_fraction=0.2, test_fraction=0.1))
    first = {row["question"] for row in streams.rows["me/long"][:FIRST]}
    assert {e.question for e in (*split.validation, *split.test)} <= first
    assert (len(split.train), len(split.validation), len(split.test)) == (182, 12, 6)
    assert split.notes == (FROM_FIRST_ROWS,)
    assert not keys(split.train) & keys((*split.validation, *split.test))


def test_the_held_out_questions_stay_however_much_is_read(streams: Streams) -> None:
    short, long = load_split(settings("me/long rows=100")), load_split(settings())
    assert short.fingerprint == long.fingerprint
    streams.rows["me/long"][150]["question"] = "Something else?"
    assert load_split(settings()).fingerprint == long.fingerprint


def test_no_more_is_read_than_what_is_asked_for(streams: Streams) -> None:
    streams.rows["me/long"] = many(5000)
    config = settings("me/long rows=5000")
    sides = load_split(config, whole=False)
    assert streams.read["me/long"] == BATCH_ROWS
    split, coming = begin(config)
    assert coming is not None and split == sides
    assert streams.read["me/long"] == 2 * BATCH_ROWS
    # of the first rows two sides are left to train on
    assert len(list(islice(coming, FIRST // 2))) == FIRST // 2
    assert streams.read["me/long"] == 2 * BATCH_ROWS
    assert len(list(coming)) > 4000


def test_what_is_held_out_is_not_trained_on_later(streams: Streams) -> None:
    before = load_split(settings())
    held, steered = before.test[0].question, before.validation[0].question
    later = streams.rows["me/long"]
    later[100]["question"] = held.upper()
    later[120]["question"] = f"Please can you tell me, {held[0].lower()}{held[1:]}"
    later[199]["question"] = steered
    loaded, after = load_and_split(settings())
    assert after.fingerprint == before.fingerprint
    assert len(loaded.examples) == 200 and len(after.train) == len(before.train) - 3
    assert [each.id for each in after.removed] == ["row-101", "row-121", "row-200"]
    assert {each.reason for each in after.removed} == {
        "question that is held out, or near to one that is"
    }
    alike = load_split(settings(near_duplicates=None))
    assert len(alike.train) == len(before.train) - 2


def test_the_turns_of_a_held_out_chat_are_not_trained_on_later(streams: Streams) -> None:
    before = load_split(settings())
    start = before.test[0]
    streams.rows["me/long"] = [
        {**row, "history": [[start.question, "Blue."]] if number == 150 else []}
        for number, row in enumerate(streams.rows["me/long"])
    ]
    after = load_split(settings())
    assert [each.id for each in after.removed] == ["row-151"]


def test_a_later_row_that_the_source_holds_out_is_not_trained_on(streams: Streams) -> None:
    streams.rows["me/long"] = [
        {**row, "split": "test" if number in (3, 150) else "train"}
        for number, row in enumerate(streams.rows["me/long"])
    ]
    split = load_split(settings())
    assert [e.id for e in split.test] == ["row-4"]
    assert [(each.id, each.reason[:8]) for each in split.removed] == [("row-151", "test row")]


@pytest.mark.parametrize("weight", ["", " weight=2", " weight=0.5", " weight=1.5"])
def test_what_comes_is_what_the_split_says(streams: Streams, weight: str, qa_csv: Path) -> None:
    streams.rows["me/long"][90]["question"] = load_split(settings()).test[0].question
    streams.rows["me/other"] = many(150, "star")
    config = settings(f"me/long rows=200{weight}\n{qa_csv}\nme/other rows=140")
    split, coming = begin(config)
    assert coming is not None
    whole = load_split(config)
    assert (split.test, split.validation) == (whole.test, whole.validation)
    came = list(coming)
    assert Counter(e.id for e in came) == Counter(e.id for e in whole.train)
    assert abs(coming.expected - len(came)) < 0.15 * len(came)
    # each source has its share of every part
    half = Counter("star" in e.question for e in came[: len(came) // 2])
    assert half[True] == pytest.approx(sum("star" in e.question for e in came) / 2, abs=15)


@pytest.mark.parametrize(("says", "expected"), [(None, 988), (200, 188), (150, 138), (9999, 988)])
def test_a_card_that_says_how_many_rows_there_are_is_believed(
    streams: Streams, says: int | None, expected: int
) -> None:
    streams.says = says
    _, coming = begin(settings("me/long rows=1000"))
    assert coming is not None and coming.expected == expected
    assert len(list(coming)) == 188  # and not more than that


def test_what_is_to_come_counts_in_what_a_training_needs(streams: Streams) -> None:
    config = settings("me/long rows=200 weight=2", epochs=1)
    whole, first = load_split(config), load_split(config, whole=False)
    assert whole.to_come == 0 and first.to_come == 280
    assert "About 280 more rows come while training goes on" in first.notes[-1]
    lengths = [row_lengths(split, config) for split in (whole, first)]
    assert len(lengths[1].train) == len(lengths[0].train) == 376
    assert [each.test_rows for each in lengths] == [6, 6]


def test_a_card_that_says_too_little_loses_no_row(streams: Streams) -> None:
    streams.says = FIRST
    split, coming = begin(settings())
    assert coming is None and len(split.train) == 160


def test_a_short_stream_is_all_there(streams: Streams) -> None:
    split, coming = begin(settings("me/long rows=50"))
    assert streams.opened == 1
    assert coming is None and len(split.train) + len(split.validation) + len(split.test) == 50


def test_a_mixture_spreads_each_source_over_the_whole() -> None:
    def named(name: str, count: int) -> list[QAExample]:
        return [QAExample(f"{name}{i}", "Why?", "So.") for i in range(count)]

    coming = Coming([Queue(named("a", 2), 2), Queue(iter(named("b", 6)), 6)])
    assert coming.expected == 8
    assert " ".join(e.id for e in coming) == "b0 a0 b1 b2 b3 a1 b4 b5"


def numbered(count: int, seen: list[int]) -> Iterator[QAExample]:
    for number in range(count):
        seen.append(number)
        yield QAExample(str(number), f"Question {number}?", "Yes.")


def encode(some: Sequence[QAExample]) -> list[EncodedExample]:
    return [EncodedExample([int(row.id)], [1] * (1 + int(row.id) % 7)) for row in some]


WINDOW = 2 * BUCKET_BATCHES


@pytest.mark.parametrize(
    "count", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 5 * WINDOW // 2]
)
def test_every_row_that_comes_is_in_one_batch(count: int) -> None:
    coming = ComingRows(numbered(count, []), encode)
    batches = list(coming.first_epoch(2, seed=0))
    ids = [row.input_ids[0] for batch in batches for row in batch.rows]
    assert sorted(ids) == list(range(count))
    assert [batch.epoch_rows for batch in batches] == [None] * (len(batches) - 1) + [count]
    assert Counter(len(batch.rows) for batch in batches) == Counter({2: count // 2, 1: count % 2})
    assert len({batch.digest for batch in batches}) == -(-count // WINDOW)
    whole = coming.whole()
    assert len(whole) == count and whole.many([count - 1]) == encode(
        [QAExample(str(count - 1), "", "")]
    )


def test_batches_that_were_trained_on_are_read_but_not_tokenised() -> None:
    done: list[int] = []

    def counted(some: Sequence[QAExample]) -> list[EncodedExample]:
        done.append(len(some))
        return encode(some)

    everything = list(ComingRows(numbered(3 * WINDOW, []), encode).first_epoch(2, seed=5))
    skip = BUCKET_BATCHES + 7
    later = list(ComingRows(numbered(3 * WINDOW, []), counted).first_epoch(2, seed=5, skip=skip))
    assert later[skip:] == everything[skip:] and len(later) == len(everything)
    assert [batch.digest for batch in later] == [batch.digest for batch in everything]
    assert done == [WINDOW] * 2


def test_no_more_than_the_next_window_is_read_ahead() -> None:
    seen: list[int] = []
    batches = ComingRows(numbered(10**9, seen), encode).first_epoch(2, seed=0)
    assert len(list(islice(batches, 3))) == 3
    batches.close()
    assert len(seen) <= 2 * WINDOW


def test_rows_that_do_not_fit_are_left_out_as_they_come() -> None:
    def even(some: Sequence[QAExample]) -> list[QAExample]:
        return [row for row in some if int(row.id) % 2 == 0]

    coming = ComingRows(numbered(3 * WINDOW, []), encode, even)
    batches = list(coming.first_epoch(2, seed=0))
    assert batches[-1].epoch_rows == 3 * WINDOW // 2 and len(coming.whole()) == 3 * WINDOW // 2


@pytest.fixture
def config(streams: Streams, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    monkeypatch.setattr("qa_lora.training_rows.BUCKET_BATCHES", 4)
    return settings(
        model=str(tiny_model), epochs=2, batch_size=8, learning_rate=5e-3, evaluate_every=50,
        checkpoint_every=7, max_new_tokens=6, probe_rows=0, score_rows=0, precision="fp32",
        lora_dropout=0.1,
    )  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def stop_then(config: TrainConfig, folder: Path, step: int) -> None:
    """Train as far as a step."""
    done: list[int] = []
    events = train(config, folder, should_stop=lambda: bool(done) and done[-1] >= step)
    done.extend(event.step for event in events)


def steps(events: list[Event]) -> list[tuple[int, float]]:
    return [(event.step, event.loss) for event in events if isinstance(event, Step)]


def test_training_knows_its_length_at_the_end_of_the_stream(
    config: TrainConfig, streams: Streams, tmp_path: Path
) -> None:
    streams.rows["me/long"] = [
        {**row, "answer": row["answer"] if number % 3 else ""}
        for number, row in enumerate(streams.rows["me/long"][:150])
    ]
    events = list(train(config, tmp_path))
    (started,) = (event for event in events if isinstance(event, Started))
    (ended,) = (event for event in events if isinstance(event, StreamEnded))
    rows_there = len(load_split(config).train)
    each_epoch = math.ceil(rows_there / 8)
    assert started.total_steps > 2 * each_epoch and FROM_FIRST_ROWS in started.notice
    assert (ended.train_rows, ended.total_steps) == (rows_there, 2 * each_epoch)
    assert ended.step == each_epoch - 1
    assert isinstance(events[-1], Finished) and events[-1].step == 2 * each_epoch
    told = [event for event in events if isinstance(event, Step)]
    assert [event.step for event in told] == list(range(1, 2 * each_epoch + 1))
    assert told[each_epoch - 1].epoch == 1.0 and told[-1].epoch == 2.0
    assert told[-1].learning_rate < 0.1 * max(event.learning_rate for event in told)


def test_more_rows_than_expected_are_all_trained_on(
    config: TrainConfig, streams: Streams, tmp_path: Path
) -> None:
    # each later row has two answers
    streams.rows["me/long"][FIRST:] = [
        {**row, "answer": [row["answer"], "Who knows."]} for row in streams.rows["me/long"][FIRST:]
    ]
    streams.rows["me/long"][:FIRST] = [
        {**row, "answer": [row["answer"]]} for row in streams.rows["me/long"][:FIRST]
    ]
    once = config.model_copy(update={"epochs": 1})
    events = list(train(once, tmp_path))
    assert isinstance(events[0], Started)
    rows_there = len(load_split(config).train)
    assert rows_there > 1.5 * events[0].train_rows
    assert isinstance(events[-1], Finished) and events[-1].step == math.ceil(rows_there / 8)


@pytest.mark.parametrize("stop", [3, 4, 9, 23, 24, 25, 30])
def test_stopped_and_resumed_equals_uninterrupted(
    config: TrainConfig, tmp_path: Path, stop: int
) -> None:
    whole = list(train(config, tmp_path / "whole"))
    stop_then(config, tmp_path / "parts", stop)
    later = list(train(config, tmp_path / "parts", resume=True))
    assert isinstance(whole[-1], Finished) and isinstance(later[-1], Finished)
    assert steps(whole)[stop:] == steps(later)
    assert later[-1].step == whole[-1].step == 48
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("stop", [5, 30])
def test_a_stream_that_has_changed_is_not_gone_on_with(
    config: TrainConfig, streams: Streams, tmp_path: Path, stop: int
) -> None:
    stop_then(config, tmp_path, stop)
    streams.rows["me/long"][FIRST + 3]["answer"] = "Another one."
    with pytest.raises(DataError, match="gives other rows than when this run began"):
        list(train(config, tmp_path, resume=True))


def test_a_stream_that_breaks_ends_the_run_with_a_sentence_and_it_goes_on(
    config: TrainConfig, streams: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qa_lora.data.hub_tables.BATCH_ROWS", 10)
    monkeypatch.setattr("qa_lora.data.reading.HEAD_ROWS", 10)
    streams.breaks_at = 150
    run = runs.create(config, tmp_path)
    with pytest.raises(DataError, match=r"me/long could not be loaded .*: the line is dead"):
        list(execute(run))
    events = list(run.events())
    assert isinstance(events[-1], Failed) and run.has_checkpoint() and run.can_resume()
    streams.breaks_at = None
    events = list(execute(run, resume=True))
    assert isinstance(events[-1], Finished) and events[-1].step == 48
    environment = json.loads((run.path / "environment.json").read_text("utf-8"))
    assert environment["rows"]["train"] == len(load_split(config).train)


@pytest.mark.parametrize(("diverges_at", "checkpoint"), [(20, 14), (30, 20)])
def test_a_loss_that_is_no_number_goes_back_within_the_stream(
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    diverges_at: int,
    checkpoint: int,
) -> None:
    real = training.optimizer_step
    seen: dict[int, list[list[EncodedExample]]] = {}

    def optimizer_step(run: Any, rows: list[EncodedExample]) -> Any:
        step = run.progress.step + 1
        seen.setdefault(step, []).append(rows)
        if step == diverges_at and len(seen[step]) == 1:
            raise NonFiniteLossError(f"The loss became nan in step {step}")
        return real(run, rows)

    monkeypatch.setattr(training, "optimizer_step", optimizer_step)
    more = {"on_nonfinite_loss": "retry", "checkpoint_every": checkpoint}
    run = runs.create(config.model_copy(update=more), tmp_path)
    list(execute(run))
    events = run.events()
    assert [event.step for event in events if isinstance(event, Step)] == list(range(1, 49))
    assert len([event for event in events if isinstance(event, StreamEnded)]) == 1
    again = range(checkpoint + 1, diverges_at + 1)
    assert all(len(rows) == 2 and rows[0] == rows[1] for rows in map(seen.__getitem__, again))


def test_a_stop_does_not_wait_for_rows(
    config: TrainConfig, streams: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qa_lora.data.hub_tables.BATCH_ROWS", 10)
    monkeypatch.setattr("qa_lora.data.reading.HEAD_ROWS", 10)
    monkeypatch.setattr("qa_lora.training_rows.LOOK_SECONDS", 0.05)
    streams.waits_at = 150
    last = 0
    stuck: list[int] = []

    def should_stop() -> bool:
        # asked after each step, and over and over while nothing comes
        stuck.append(last)
        return stuck.count(last) > 5

    events = []
    for event in train(config, tmp_path / "parts", should_stop=should_stop):
        events.append(event)
        last = event.step
    assert isinstance(events[-1], Finished) and events[-1].reason == "stopped"
    assert 0 < events[-1].step < 24
    streams.goes_on.set()
    later = list(train(config, tmp_path / "parts", resume=True))
    whole = list(train(config, tmp_path / "whole"))
    assert steps(whole)[events[-1].step :] == steps(later)
