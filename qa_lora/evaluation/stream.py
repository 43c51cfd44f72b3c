"""Held-out questions to answers to a report: do adapters answer better than their base?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qa_lora import distributed
from qa_lora.answering import Answerer, GenerationSettings, load
from qa_lora.batching import share
from qa_lora.errors import ConfigError
from qa_lora.evaluation.asked import Asked, find_questions
from qa_lora.evaluation.examining import Examined, Examiner
from qa_lora.evaluation.summary import compare, length_ratios, mean_scores, shares
from qa_lora.report import (
    BASE,
    FACT_ACCURACY,
    TUNED,
    Report,
    column_names,
    questions_fingerprint,
    save_report,
)
from qa_lora.runs import Run
from qa_lora.scoring import METRICS

__all__ = ["Progress", "evaluate", "evaluate_stream"]

PROGRESS_SECONDS = 0.2
"""At least this long between two tellings of how far an evaluation is."""

FIRST_GROUP, LARGEST_GROUP = 16, 512
"""Questions answered together, in an order drawn at random: what was finished when an evaluation is
stopped is a fair sample. Within a group they are answered by length."""


@dataclass(frozen=True)
class Progress:
    """So many of the questions are answered and scored."""

    done: int
    total: int
    elapsed_seconds: float = 0.0
    """Since the first question was asked."""
    eta_seconds: float | None = None
    """Until the last one is answered, if it goes on like this; None before the first answer."""


def evaluate(
    run: str | Path | Run,
    *,
    split: str = "test",
    limit: int | None = None,
    data: str | None = None,
    file: str | Path | None = None,
    adapters: Sequence[str | Path] = (),
    runs_dir: str | Path | None = None,
    answerer: Answerer | None = None,
    settings: GenerationSettings | None = None,
    seed: int = 0,
    remove_stopwords: bool = False,
    loss: bool = True,
    effect: bool = True,
    save: bool = True,
) -> Report:
    """Score base and tuned on held-out questions; :func:`evaluate_stream`, drained."""
    for item in evaluate_stream(
        run,
        split=split,
        limit=limit,
        data=data,
        file=file,
        adapters=adapters,
        runs_dir=runs_dir,
        answerer=answerer,
        settings=settings,
        seed=seed,
        remove_stopwords=remove_stopwords,
        loss=loss,
        effect=effect,
        save=save,
    ):
        if isinstance(item, Report):
            return item
    raise AssertionError("an evaluation ends with its report")


def evaluate_stream(
    run: str | Path | Run,
    *,
    split: str = "test",
    limit: int | None = None,
    data: str | None = None,
    file: str | Path | None = None,
    adapters: Sequence[str | Path] = (),
    runs_dir: str | Path | None = None,
    answerer: Answerer | None = None,
    settings: GenerationSettings | None = None,
    seed: int = 0,
    remove_stopwords: bool = False,
    loss: bool = True,
    effect: bool = True,
    save: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress | Report]:
    """Score base and tuned on held-out questions, telling how far it is.

    All answer every question from the same base weights. A question with several right answers
    counts once, and each metric takes the best of them.

    Args:
        run: A run, its id or folder, an adapter folder, or the Hub id of an adapter.
        split: "train", "validation" or "test".
        limit: At most this many questions, drawn by `seed`; all if None.
        data: Another source than the run's, divided as the run's data is; needed where there is no
            run to name one. Questions the run was trained on are left out of it, so the run's own
            data must be readable.
        file: A file with questions and right answers, all of which are scored, but for those that
            the run was trained on. In place of `split` and `data`.
        adapters: Further adapters of the same base, named as `run` is. What their runs were
            trained on is left out, too.
        runs_dir: Where run ids are looked up; :func:`qa_lora.runs.default_runs_dir` if None.
        answerer: The run's, if it is loaded already.
        settings: How answers are generated; the run's own settings, greedy, if None.
        seed: Of the draw of questions and of the bootstrap.
        remove_stopwords: Leave the frequent function words out of the ROUGE scores.
        loss: Also compute loss and perplexity of the references.
        effect: Also measure how much each adapter changes what the base says.
        save: Write the report into the run's evaluations folder, if there is a run.
        should_stop: Asked after every batch; when true, the evaluation ends with a report of the
            groups of questions that are finished, marked incomplete; without one if there are none.

    Yields:
        `Progress`, at the start, a few times a second and at the end; then the report. Of several
        processes under a launcher each answers its share, and all get the whole report.

    Raises:
        ConfigError: If `split` or `limit` is not possible.
        DataError: If the data cannot be used, or none is named.
        ModelError: If the model or an adapter cannot be used.
        RunError: If there is no such run, or the report cannot be saved.
    """
    started = time.perf_counter()
    loaded = answerer or distributed.together(lambda: load(run, runs_dir=runs_dir))
    with _further(loaded, adapters, runs_dir) as names:
        asked = find_questions(
            loaded.run,
            split=split,
            limit=limit,
            seed=seed,
            data=data,
            file=file,
            others=[other for name in names if (other := loaded.run_of(name)) is not None],
        )
        settings = settings or loaded.settings
        # Before the answers: the files may be replaced while they are made.
        digests = {name: loaded.digest_of(name) for name in (TUNED, *names)}
        examiner = Examiner(
            loaded,
            (BASE, TUNED, *names),
            settings,
            remove_stopwords=remove_stopwords,
            loss=loss,
            should_stop=should_stop,
        )
        found = yield from _examine(examiner, asked, seed)
        changes: dict[str, dict[str, Any]] = {}
        if effect and len(found.results) == len(asked.questions):
            changes = distributed.from_first(lambda: examiner.effects(asked.questions, found))
    if not found.results:
        return
    made = {
        "model": loaded.model.get_base_model().name_or_path,
        "precision": str(loaded.model.dtype).removeprefix("torch."),
        "data": asked.data,
        "adapters": list(names),
        "adapter_digests": digests,
        "limit": limit,
        "draw_seed": seed,
        "remove_stopwords": remove_stopwords,
        **asdict(settings),
    }
    report = _report(asked, found, seed)
    report = replace(report, effect=changes, settings=made, seconds=time.perf_counter() - started)
    if save and loaded.run is not None:
        folder, unsaved = loaded.run.evaluations_dir, report
        report = distributed.from_first(lambda: save_report(unsaved, folder))
    yield report


@contextmanager
def _further(
    answerer: Answerer, adapters: Sequence[str | Path], runs_dir: str | Path | None
) -> Iterator[list[str]]:
    """The names of further adapters, on the model meanwhile; those that were there stay."""
    names: list[str] = []
    added: list[str] = []

    def put_on() -> None:
        for adapter in adapters:
            there = str(adapter) in answerer.systems[2:]
            name = str(adapter) if there else answerer.add(adapter, runs_dir=runs_dir)
            if not there:
                added.append(name)
            _check_columns(name, [*answerer.systems[:2], *names])
            names.append(name)

    try:
        distributed.together(put_on)
        yield names
    finally:
        for name in added:
            answerer.remove(name)


def _check_columns(name: str, others: Sequence[str]) -> None:
    """Refuse a name with which two columns of the table of examples would be called alike."""
    metrics = (*METRICS, FACT_ACCURACY)
    taken = {"id", "question", "references", "context", "source"}
    taken.update(column for other in others for column in column_names(other, metrics))
    if not taken.isdisjoint(column_names(name, metrics)):
        raise ConfigError(
            f"An adapter cannot be scored under the name {name}: a column is called so already.",
            "Name each adapter once, and rename its folder if need be.",
        )


def _examine(
    examiner: Examiner, asked: Asked, seed: int
) -> Generator[Progress | Report, None, Examined]:
    """Ask all questions, this process its share; what all processes have found."""
    questions = asked.questions
    processes = distributed.count()
    everything = share(range(len(questions)), processes, lambda i: questions[i].length)
    mine = everything[distributed.index()]
    random.Random(seed).shuffle(mine)
    clock = _Clock(len(questions), processes)
    yield clock.progress(0)
    found = Examined()
    failure: Exception | None = None
    try:
        for group in _groups(mine):
            part = examiner.examine([questions[i] for i in group])
            while True:
                try:
                    answered = next(part)
                except StopIteration as end:
                    more: Examined | None = end.value
                    break
                done = len(found.results) + answered
                if clock.due() or done == len(questions):
                    yield clock.progress(done)
            if more is None:
                break
            found += more.placed(group)
    except Exception as error:  # told to all, for the others wait for this one's answers
        failure = error

    def outcome() -> Examined:
        if failure is not None:
            raise failure
        return found

    together = sum(distributed.gather(outcome), start=Examined())
    if processes > 1:
        yield clock.progress(len(together.results), of_all=True)
    return together


class _Clock:
    """Says how far it is, and how long it will take."""

    def __init__(self, total: int, processes: int) -> None:
        self.total = total
        self.processes = processes
        self.started = self.told = time.perf_counter()

    def due(self) -> bool:
        return time.perf_counter() - self.told > PROGRESS_SECONDS

    def progress(self, done: int, *, of_all: bool = False) -> Progress:
        self.told = time.perf_counter()
        if not of_all:  # the others are about as far
            done = min(done * self.processes, self.total)
        elapsed = self.told - self.started
        left = elapsed * (self.total - done) / done if done else None
        return Progress(done, self.total, elapsed, left)


def _groups(order: Sequence[int]) -> Iterator[Sequence[int]]:
    """Groups that grow: little is lost when it is stopped early, and little padded later."""
    start, size = 0, FIRST_GROUP
    while start < len(order):
        yield order[start : start + size]
        start, size = start + size, min(2 * size, LARGEST_GROUP)


def _report(asked: Asked, found: Examined, seed: int) -> Report:
    """The numbers, but for how they were made."""
    done = sorted(found.results)
    examples = tuple(found.results[i] for i in done)
    return Report(
        rows=len(examples),
        split=asked.split,
        scores=mean_scores(examples),
        differences=compare(examples, seed),
        seconds=0.0,
        fingerprint=asked.fingerprint,
        test_fingerprint=questions_fingerprint(
            (asked.questions[i].key, asked.questions[i].references) for i in done
        ),
        shares=shares(examples),
        length_ratios=length_ratios(examples),
        corpus={system: stats.scores() for system, stats in found.corpus.items()},
        losses={system: total.to_dict() for system, total in found.losses.items()},
        asked=len(asked.questions),
        complete=len(examples) == len(asked.questions),
        examples=examples,
    )
