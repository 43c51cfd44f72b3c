"""Which questions an evaluation asks: a split or a file, without what an adapter was trained on."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qa_lora.config import TrainConfig
from qa_lora.data import QAExample, question_key
from qa_lora.data.columns import ColumnsError
from qa_lora.data.rows import LoadedData, load, load_and_split, load_split, with_weights
from qa_lora.data.split import fingerprint
from qa_lora.errors import ConfigError, DataError
from qa_lora.runs import Run

__all__ = ["SPLITS", "Asked", "Question", "find_questions"]

SPLITS = ("train", "validation", "test")

WHOLE_FILE = "file"
"""What stands for the split where all questions of a file are asked."""


@dataclass(frozen=True)
class Question:
    """A question with all right answers to it."""

    example: QAExample
    """The first of its rows; the others differ from it in their answer."""
    rows: tuple[QAExample, ...]
    source: str = ""

    @property
    def references(self) -> tuple[str, ...]:
        """The different right answers."""
        return tuple(dict.fromkeys(row.answer for row in self.rows))

    @property
    def facts(self) -> tuple[str, ...]:
        """Rows of one question may word its facts differently; the first that has some decides."""
        return next((row.facts for row in self.rows if row.facts), ())

    @property
    def key(self) -> str:
        """What makes it the same question elsewhere."""
        return _key(self.example)

    @property
    def length(self) -> int:
        """About how much there is to read."""
        return len(self.example.question) + len(self.example.context)


@dataclass(frozen=True)
class Asked:
    """The questions of an evaluation, and where they are from."""

    questions: list[Question]
    split: str
    data: str
    fingerprint: str


def find_questions(
    run: Run | None,
    *,
    split: str,
    limit: int | None,
    seed: int,
    data: str | None = None,
    file: str | Path | None = None,
    others: Sequence[Run] = (),
) -> Asked:
    """The questions to score.

    Args:
        run: The run whose adapter is scored, if it belongs to one.
        split: "train", "validation" or "test".
        limit: At most this many, drawn by `seed`; all if None.
        seed: Of the draw.
        data: Another source than the run's, divided as that was.
        file: A file of which all questions are asked, in place of a split.
        others: The runs of further adapters. What one of them was trained on would flatter it.

    Raises:
        ConfigError: If `split` or `limit` is not possible, or both `data` and `file` are given.
        DataError: If the data cannot be used, none is named, or no question is left.
    """
    if split not in SPLITS:
        raise ConfigError(f"There is no split {split!r}.", f"The splits are {', '.join(SPLITS)}.")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1 (it is {limit}).")
    if file is not None:
        if data is not None:
            raise ConfigError("Name either other data or a file, not both.")
        asked = _of_file(file, run.config() if run else TrainConfig())
        trained_by = [run] if run else []
    else:
        config = _config(run, data)
        asked = _of_split(config, split)
        other = run is not None and config.data != run.config().data
        if run is not None and not other:
            run.check_held_out(asked.fingerprint)
        trained_by = [run] if run is not None and other and split != "train" else []
    if file is not None or split != "train":
        trained_by += [each for each in others if run is None or each.path != run.path]
    questions = asked.questions
    for each in trained_by:
        trained = _trained(each)
        questions = [question for question in questions if question.key not in trained]
    questions = _draw(questions, limit, seed)
    if not questions:
        where = "" if file is not None else f"The {split} split of "
        more = " but those that an adapter was trained on" if asked.questions else ""
        raise DataError(f"{where}{asked.data} has no questions to score{more}.")
    return Asked(questions, asked.split, asked.data, asked.fingerprint)


def _of_split(config: TrainConfig, split: str) -> Asked:
    # Of a stream, none of the later rows is held out.
    loaded, once = load_and_split(config, whole=split == "train")
    sides = with_weights(loaded, once, config.seed)
    examples = {"train": sides.train, "validation": sides.validation, "test": sides.test}[split]
    return Asked(_group(examples, _sources(loaded)), split, config.data, sides.fingerprint)


def _of_file(file: str | Path, config: TrainConfig) -> Asked:
    """All questions of a file: of the columns that the run named, or else told by their names.

    What the run took for a question or an answer is one here, too, even if a column beside it has
    the more telling name: otherwise the questions it was trained on would not be known again.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    named = {
        name: getattr(config, name)
        for name in ("question_column", "answer_column", "context_column")
        if getattr(config, name)
    }
    bare = {name: column for name, column in named.items() if name != "context_column"}
    loaded = None
    for columns in (named, bare):  # the file may do without the passages
        with suppress(ColumnsError):
            loaded = load(str(path), **columns)
            break
    try:
        loaded = loaded or load(str(path))
    except ColumnsError as error:
        raise DataError(
            f"{path.name} cannot be scored: {error.message}",
            "Scoring needs questions and their right answers: call the columns question and "
            "answer, or as those of the run's own data.",
        ) from None
    questions = _group(loaded.examples, _sources(loaded))
    return Asked(questions, WHOLE_FILE, path.name, fingerprint(loaded.examples))


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


def _trained(run: Run) -> Collection[str]:
    """The questions a run was trained on, which another source may hold, too."""
    own = load_split(run.config())
    run.check_held_out(own.fingerprint)
    return {_key(example) for example in own.train}


def _key(example: QAExample) -> str:
    return question_key(example.question, example.context, example.history)


def _sources(loaded: LoadedData) -> dict[str, str]:
    """By the ids of examples, what they come from: their source, of a single one their file.

    Empty where all come from one.
    """
    for names in (loaded.origins, loaded.files):
        if len(set(names)) > 1:
            return {row.id: name for row, name in zip(loaded.examples, names, strict=True)}
    return {}


def _group(examples: Sequence[QAExample], sources: dict[str, str]) -> list[Question]:
    """One entry a question, in the order of their first rows."""
    groups: dict[str, list[QAExample]] = {}
    for example in examples:
        groups.setdefault(_key(example), []).append(example)
    return [Question(rows[0], tuple(rows), sources.get(rows[0].id, "")) for rows in groups.values()]


def _draw(questions: list[Question], limit: int | None, seed: int) -> list[Question]:
    """A fair sample in the order of the split; the same one whenever the same is asked for."""
    if limit is None or limit >= len(questions):
        return questions
    drawn = random.Random(seed).sample(range(len(questions)), limit)
    return [questions[i] for i in sorted(drawn)]
