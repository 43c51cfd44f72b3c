"""Held-out questions to answers to a report: does an adapter answer better than its base?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qa_lora import distributed
from qa_lora.answering import Answer, Answerer, GenerationSettings, load
from qa_lora.asked import Asked, Question, find_questions
from qa_lora.batching import encode, share
from qa_lora.config import TrainConfig
from qa_lora.data import QAExample
from qa_lora.reference_loss import LossSum, summed_loss
from qa_lora.report import FACT_ACCURACY, ExampleResult, Report, questions_fingerprint
from qa_lora.report_files import save_report
from qa_lora.runs import Run
from qa_lora.scoring import fact_recall, is_repeating, length_ratio, score
from qa_lora.summary import compare, length_ratios, mean_scores, shares

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
    answerer = answerer or distributed.together(lambda: load(run, runs_dir=runs_dir))
    asked = find_questions(answerer.run, split=split, limit=limit, seed=seed, data=data, file=file)
    settings = settings or answerer.settings
    scorer = _Scorer(answerer, settings, remove_stopwords, loss, should_stop)

    questions = asked.questions
    processes = distributed.count()
    everything = share(range(len(questions)), processes, lambda i: questions[i].length)
    mine = everything[distributed.index()]
    random.Random(seed).shuffle(mine)
    clock = _Clock(len(questions), processes)
    yield clock.progress(0)
    stopped = False
    failure: Exception | None = None
    results: dict[int, ExampleResult] = {}
    try:
        for group in _groups(mine):
            found: dict[int, ExampleResult] = {}
            for place, result in scorer.results([questions[i] for i in group]):
                found[group[place]] = result
                done = len(results) + len(found)
                if clock.due() or done == len(questions):
                    yield clock.progress(done)
                if stopped := should_stop():
                    break
            if stopped or not scorer.add_losses([questions[i] for i in group]):
                stopped = True
                break
            results |= found
    except Exception as error:  # told to all, for the others wait for this one's answers
        failure = error

    def outcome() -> tuple[dict[int, ExampleResult], dict[str, LossSum]]:
        if failure is not None:
            raise failure
        return results, scorer.losses

    parts = distributed.gather(outcome)
    results = {i: result for part, _ in parts for i, result in part.items()}
    if not results:
        return
    if processes > 1:
        yield clock.progress(len(results), of_all=True)
    report = _report(asked, results, seed, time.perf_counter() - started)
    report = scorer.complete(report, [losses for _, losses in parts], limit, seed)
    if save and answerer.run is not None:
        folder = answerer.run.evaluations_dir
        unsaved = report
        report = distributed.from_first(lambda: save_report(unsaved, folder))
    yield report


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


class _Scorer:
    """Lets the systems answer questions, and scores what they say."""

    def __init__(
        self,
        answerer: Answerer,
        settings: GenerationSettings,
        remove_stopwords: bool,
        loss: bool,
        should_stop: Callable[[], bool],
    ) -> None:
        self.answerer = answerer
        self.settings = settings
        self.remove_stopwords = remove_stopwords
        self.loss = loss
        self.should_stop = should_stop
        self.systems = ("base", "tuned")
        config = answerer.run.config() if answerer.run else TrainConfig()
        self.max_target_tokens = config.max_target_tokens
        self.losses: dict[str, LossSum] = {}

    def results(self, questions: Sequence[Question]) -> Iterator[tuple[int, ExampleResult]]:
        """The scored questions with their places, in any order."""
        examples = [question.example for question in questions]
        for place, answers in self.answerer.answer_many(
            examples, systems=self.systems, settings=self.settings
        ):
            yield place, self._result(questions[place], answers)

    def add_losses(self, questions: Sequence[Question]) -> bool:
        """Add the loss of every reference row of some questions; false if it was stopped."""
        if not self.loss:
            return True
        rows = [row for question in questions for row in question.rows]
        parts: dict[str, LossSum] = {}
        for system in self.systems:
            part = self._summed_loss(system, rows)
            if part is None:
                return False
            parts[system] = self.losses.get(system, LossSum()) + part
        self.losses = parts
        return True

    def _summed_loss(self, system: str, rows: Sequence[QAExample]) -> LossSum | None:
        answerer = self.answerer
        tokenizer = answerer.base_tokenizer if system == "base" else answerer.tokenizer
        encoded = encode(
            rows,
            tokenizer,
            answerer.template,
            max_source_tokens=answerer.max_source_tokens,
            max_target_tokens=self.max_target_tokens,
        )
        pad = tokenizer.pad_token_id
        off = answerer.model.disable_adapter() if system == "base" else nullcontext()
        with answerer._lock, off:  # noqa: SLF001
            return summed_loss(answerer.model, encoded, pad, should_stop=self.should_stop)

    def complete(
        self,
        report: Report,
        losses: Sequence[dict[str, LossSum]],
        limit: int | None,
        seed: int,
    ) -> Report:
        """The report with what the models themselves say."""
        model = self.answerer.model
        return replace(
            report,
            losses={
                system: LossSum.total(part[system] for part in losses if part).to_dict()
                for system in (self.systems if self.loss else ())
            },
            settings={
                "model": model.get_base_model().name_or_path,
                "precision": str(model.dtype).removeprefix("torch."),
                **report.settings,
                "limit": limit,
                "draw_seed": seed,
                "remove_stopwords": self.remove_stopwords,
                **asdict(self.settings),
            },
        )

    def _result(self, question: Question, answers: dict[str, Answer]) -> ExampleResult:
        return ExampleResult(
            id=question.example.id,
            question=question.example.question,
            context=question.example.context,
            references=question.references,
            answers={system: answer.text for system, answer in answers.items()},
            scores={s: self._scores(question, answer.text) for s, answer in answers.items()},
            traits={s: _traits(question, answer) for s, answer in answers.items()},
            source=question.source,
        )

    def _scores(self, question: Question, answer: str) -> dict[str, float]:
        values = score(answer, question.references)
        if question.facts:
            values[FACT_ACCURACY] = fact_recall(answer, question.facts)
        return values


def _traits(question: Question, answer: Answer) -> dict[str, float]:
    return {
        "cut": float(answer.cut),
        "empty": float(not answer.text.strip()),
        "repeating": float(is_repeating(answer.text)),
        "prompt_cut": float(bool(answer.notice)),
        "length_ratio": length_ratio(answer.text, question.references),
    }


def _groups(order: Sequence[int]) -> Iterator[Sequence[int]]:
    """Groups that grow: little is lost when it is stopped early, and little padded later."""
    start, size = 0, FIRST_GROUP
    while start < len(order):
        yield order[start : start + size]
        start, size = start + size, min(2 * size, LARGEST_GROUP)


def _report(asked: Asked, results: dict[int, ExampleResult], seed: int, seconds: float) -> Report:
    """The numbers that the rows alone give."""
    done = sorted(results)
    examples = tuple(results[i] for i in done)
    settings: dict[str, Any] = {"data": asked.data}
    return Report(
        rows=len(examples),
        split=asked.split,
        scores=mean_scores(examples),
        differences=compare(examples, seed),
        seconds=seconds,
        fingerprint=asked.fingerprint,
        test_fingerprint=questions_fingerprint(
            (asked.questions[i].key, asked.questions[i].references) for i in done
        ),
        shares=shares(examples),
        length_ratios=length_ratios(examples),
        settings=settings,
        asked=len(asked.questions),
        complete=len(examples) == len(asked.questions),
        examples=examples,
    )
