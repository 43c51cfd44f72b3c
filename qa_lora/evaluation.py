"""Held-out rows to answers to a report: does the adapter answer better than its base?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from qa_lora import distributed
from qa_lora.answering import Answer, Answerer, GenerationSettings, load
from qa_lora.batching import share
from qa_lora.config import TrainConfig
from qa_lora.data import QAExample, load_split, question_key
from qa_lora.errors import ConfigError, DataError
from qa_lora.report import FACT_ACCURACY, ExampleResult, Report, save_report
from qa_lora.runs import Run
from qa_lora.scoring import METRICS, fact_recall, score
from qa_lora.statistics import paired_bootstraps

__all__ = ["Progress", "evaluate", "evaluate_stream"]

SPLITS = ("train", "validation", "test")

PROGRESS_SECONDS = 0.2
"""At least this long between two tellings of how far an evaluation is."""


@dataclass(frozen=True)
class Progress:
    """So many of the questions are answered and scored."""

    done: int
    total: int


@dataclass(frozen=True)
class _Question:
    """A question with all right answers to it."""

    example: QAExample
    """The first of its rows; the others differ from it in their answer."""
    references: tuple[str, ...]
    facts: tuple[str, ...]


def evaluate(
    run: str | Path | Run,
    *,
    split: str = "test",
    limit: int | None = None,
    data: str | None = None,
    runs_dir: str | Path | None = None,
    answerer: Answerer | None = None,
    settings: GenerationSettings | None = None,
    seed: int = 0,
    save: bool = True,
) -> Report:
    """Score base and tuned on held-out questions; :func:`evaluate_stream`, drained."""
    for item in evaluate_stream(
        run,
        split=split,
        limit=limit,
        data=data,
        runs_dir=runs_dir,
        answerer=answerer,
        settings=settings,
        seed=seed,
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
    runs_dir: str | Path | None = None,
    answerer: Answerer | None = None,
    settings: GenerationSettings | None = None,
    seed: int = 0,
    save: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress | Report]:
    """Score base and tuned on held-out questions, telling how far it is.

    Both answer every question in the same batches, from the same base weights. A question with
    several right answers counts once, and each metric takes the best of them.

    Args:
        run: A run, its id or folder, an adapter folder, or the Hub id of an adapter.
        split: "train", "validation" or "test".
        limit: At most this many questions, drawn by `seed`; all if None.
        data: Another source than the run's; needed where there is no run to name one. Questions
            the run was trained on are left out of it, so the run's own data must be readable.
        runs_dir: Where run ids are looked up; :func:`qa_lora.runs.default_runs_dir` if None.
        answerer: The run's, if it is loaded already.
        settings: How answers are generated; the run's own settings, greedy, if None.
        seed: Of the draw of questions and of the bootstrap.
        save: Write the report into the run's evaluations folder, if there is a run.
        should_stop: Asked after every batch; when true, the evaluation ends without a report.

    Yields:
        `Progress`, at the start, a few times a second and at the end; then the report. Of several
        processes under a launcher each answers its share, and all get the whole report.

    Raises:
        ConfigError: If `split` or `limit` is not possible.
        DataError: If the data cannot be used, or none is named.
        ModelError: If the model or the adapter cannot be used.
        RunError: If there is no such run, or the report cannot be saved.
    """
    if split not in SPLITS:
        raise ConfigError(f"There is no split {split!r}.", f"The splits are {', '.join(SPLITS)}.")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1 (it is {limit}).")
    started = time.perf_counter()
    answerer = answerer or distributed.together(lambda: load(run, runs_dir=runs_dir))
    config = _config(answerer.run, data)
    other = answerer.run is not None and config.data != answerer.run.config().data
    sides = load_split(config)
    if answerer.run is not None and not other:
        answerer.run.check_held_out(sides.fingerprint)
    settings = settings or answerer.settings
    asked = _group(
        {"train": sides.train, "validation": sides.validation, "test": sides.test}[split]
    )
    if answerer.run is not None and other and split != "train":
        asked = _without_trained(asked, answerer.run)
    questions = _draw(asked, limit, seed)
    if not questions:
        raise DataError(f"The {split} split of {config.data} has no questions to score.")

    yield Progress(0, len(questions))
    told = time.perf_counter()
    processes = distributed.count()
    everything = share(range(len(questions)), processes, lambda i: _length(questions[i].example))
    mine = everything[distributed.index()]
    pairs: dict[int, tuple[Answer, Answer]] = {}
    results: dict[int, ExampleResult] = {}
    stopped = False
    failure: Exception | None = None
    try:
        for place, said in answerer.answer_many(
            [questions[i].example for i in mine], systems=("base", "tuned"), settings=settings
        ):
            i = mine[place]
            base, tuned = pairs[i] = said["base"], said["tuned"]
            results[i] = _result(questions[i], base.text, tuned.text)
            if time.perf_counter() - told > PROGRESS_SECONDS or len(results) == len(questions):
                # The others are about as far.
                yield Progress(min(len(results) * processes, len(questions)), len(questions))
                told = time.perf_counter()
            if stopped := should_stop():
                break
    except Exception as error:  # told to all, for the others wait for this one's answers
        failure = error

    def found() -> tuple[dict[int, tuple[Answer, Answer]], dict[int, ExampleResult], bool]:
        if failure is not None:
            raise failure
        return pairs, results, stopped

    parts = distributed.gather(found)
    if any(stopped for *_, stopped in parts):
        return
    pairs = {i: pair for part, *_ in parts for i, pair in part.items()}
    results = {i: result for _, part, _ in parts for i, result in part.items()}
    if processes > 1:
        yield Progress(len(results), len(questions))

    examples = tuple(results[i] for i in range(len(questions)))
    base_means, tuned_means, difference = _summarise(examples, seed)
    report = Report(
        rows=len(examples),
        split=split,
        base=base_means,
        tuned=tuned_means,
        difference=difference,
        cut_base=_share([base.cut for base, _ in pairs.values()]),
        cut_tuned=_share([tuned.cut for _, tuned in pairs.values()]),
        seconds=time.perf_counter() - started,
        fingerprint=sides.fingerprint,
        settings={
            "model": answerer.model.get_base_model().name_or_path,
            "precision": str(answerer.model.dtype).removeprefix("torch."),
            "data": config.data,
            "limit": limit,
            "draw_seed": seed,
            **asdict(settings),
        },
        examples=examples,
    )
    if save and answerer.run is not None:
        folder = answerer.run.evaluations_dir
        report = distributed.from_first(lambda: save_report(report, folder))
    yield report


def _length(example: QAExample) -> int:
    return len(example.question) + len(example.context)


def _config(run: Run | None, data: str | None) -> TrainConfig:
    """The settings that say where the questions come from and how they are divided."""
    if run is not None:
        config = run.config()
        if data is None or data == config.data:
            return config
        # Another source has other columns, but is divided alike: by question, seed and fractions.
        kept = ("seed", "validation_fraction", "test_fraction", "near_duplicates")
        return TrainConfig.build(data=data, **{name: getattr(config, name) for name in kept})
    if data is None:
        raise DataError(
            "This adapter belongs to no run, so its held-out questions are not known.",
            "Name the data to score it on.",
        )
    return TrainConfig.build(data=data)


def _without_trained(questions: list[_Question], run: Run) -> list[_Question]:
    """Leave out what the run was trained on, which another source may hold, too."""
    own = load_split(run.config())
    run.check_held_out(own.fingerprint)
    trained = {_key(example) for example in own.train}
    return [question for question in questions if _key(question.example) not in trained]


def _key(example: QAExample) -> str:
    return question_key(example.question, example.context, example.history)


def _group(examples: Sequence[QAExample]) -> list[_Question]:
    """One entry a question, in the order of their first rows."""
    groups: dict[str, list[QAExample]] = {}
    for example in examples:
        groups.setdefault(_key(example), []).append(example)
    return [
        _Question(
            rows[0],
            references=tuple(dict.fromkeys(row.answer for row in rows)),
            # Rows of one question may word its facts differently; the first that has some decides.
            facts=next((row.facts for row in rows if row.facts), ()),
        )
        for rows in groups.values()
    ]


def _draw(questions: list[_Question], limit: int | None, seed: int) -> list[_Question]:
    """A fair sample in the order of the split; the same one whenever the same is asked for."""
    if limit is None or limit >= len(questions):
        return questions
    drawn = random.Random(seed).sample(range(len(questions)), limit)
    return [questions[i] for i in sorted(drawn)]


def _result(question: _Question, base: str, tuned: str) -> ExampleResult:
    def scores(answer: str) -> dict[str, float]:
        values = score(answer, question.references)
        if question.facts:
            values[FACT_ACCURACY] = fact_recall(answer, question.facts)
        return values

    return ExampleResult(
        id=question.example.id,
        question=question.example.question,
        context=question.example.context,
        references=question.references,
        base=base,
        tuned=tuned,
        base_scores=scores(base),
        tuned_scores=scores(tuned),
    )


def _summarise(
    examples: Sequence[ExampleResult], seed: int
) -> tuple[dict[str, float], dict[str, float], dict[str, dict[str, float]]]:
    """Means of base and tuned, and their differences; facts over the questions that name some."""
    means: tuple[dict[str, float], dict[str, float]] = ({}, {})
    difference: dict[str, dict[str, float]] = {}
    with_facts = [row for row in examples if FACT_ACCURACY in row.base_scores]
    for rows, metrics in ((examples, METRICS), (with_facts, (FACT_ACCURACY,))):
        if not rows:
            continue
        base = {name: [row.base_scores[name] for row in rows] for name in metrics}
        tuned = {name: [row.tuned_scores[name] for row in rows] for name in metrics}
        for name in metrics:
            means[0][name] = sum(base[name]) / len(rows)
            means[1][name] = sum(tuned[name]) / len(rows)
        found = paired_bootstraps(base, tuned, seed=seed)
        difference |= {name: asdict(found[name]) for name in metrics}
    return *means, difference


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
