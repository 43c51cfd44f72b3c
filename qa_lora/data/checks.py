"""The data report: what was read and dropped, what will be cut, whether anything leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qa_lora.config import TrainConfig
from qa_lora.data.example import QAExample, question_key
from qa_lora.data.rows import LoadedData, load_and_split
from qa_lora.data.split import DataSplit
from qa_lora.prompts import PromptTemplate

__all__ = ["DataReport", "DropReason", "TokenLengths", "check", "check_config"]

PREVIEW_ROWS = 3
FIRST_ROWS = 5


@dataclass(frozen=True)
class DropReason:
    """How many rows were dropped for one reason, and which were the first."""

    reason: str
    count: int
    first_rows: tuple[int, ...]
    """1-based numbers of the first few."""


@dataclass(frozen=True)
class TokenLengths:
    """Lengths of one kind of text in tokens, and the share that will be cut."""

    median: int
    p95: int
    longest: int
    limit: int
    cut: float
    """Share, 0 to 1, that is longer than the limit."""


@dataclass(frozen=True)
class DataReport:
    """What a person should know about the data before training on it."""

    source: str
    columns: dict[str, str]
    """Role -> column, for the columns that are used."""
    rows_in_source: int
    rows_read: int
    rows_used: int
    """Rows that gave at least one example to train, validate or test on."""
    examples: int
    """Examples on the three sides; a row with several answers gives several."""
    dropped: tuple[DropReason, ...]
    questions: int
    """Different questions; a passage and earlier turns belong to a question."""
    duplicates: int
    """Examples that repeat the question and answer of another one."""
    several_answers: int
    """Questions with more than one different answer."""
    sides: dict[str, dict[str, int]]
    """train, validation and test -> rows and questions."""
    given_split: bool
    """Whether the source itself says which row is on which side."""
    overlap: int
    """Questions that stand on more than one side; always 0 in a split made by this library."""
    prompt_tokens: TokenLengths | None
    answer_tokens: TokenLengths | None
    preview: tuple[dict[str, str], ...]
    """The first rows, as question, answer and context."""
    fingerprint: str
    """Of the test side."""

    @property
    def cut(self) -> float:
        """Share of the examples' prompts or answers that are cut, whichever is larger."""
        lengths = (self.prompt_tokens, self.answer_tokens)
        return max((each.cut for each in lengths if each), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON, with its lines and summary."""
        return {**asdict(self), "summary": self.summary()}

    def summary(self) -> str:
        """The report in one line, for a card beside the form."""
        parts = [_count(self.rows_used, "row")]
        if lost := sum(reason.count for reason in self.dropped):
            parts.append(f"{lost:,} dropped")
        if self.prompt_tokens or self.answer_tokens:
            parts.append(f"{_percent(self.cut)} cut")
        overlap = (
            "no overlap" if not self.overlap else f"{_count(self.overlap, 'question')} overlap"
        )
        parts.append(f"test {_count(self.sides['test']['questions'], 'question')}, {overlap}")
        return " · ".join(parts)

    def lines(self) -> list[str]:
        """The report for a terminal, a fact a line."""
        columns = ", ".join(f"{role} from {name}" for role, name in self.columns.items())
        read = f"{self.source}: {_count(self.rows_read, 'row')} read"
        if self.rows_read < self.rows_in_source:
            read += f" of {self.rows_in_source:,}, spread evenly"
        out = [f"{read}, {self.rows_used:,} used", f"columns: {columns}"]
        for reason in self.dropped:
            rows = ", ".join(str(row) for row in reason.first_rows)
            rows += ", ..." if reason.count > len(reason.first_rows) else ""
            what = "row" if reason.count == 1 else "rows"
            out.append(f"dropped: {reason.count:,} x {reason.reason} ({what} {rows})")
        out.append(
            f"questions: {self.questions:,} different, {self.several_answers:,} with several "
            f"answers, {_count(self.duplicates, 'exact duplicate')}"
        )
        sizes = ", ".join(
            f"{side} {_count(size['questions'], 'question')} in {_count(size['rows'], 'row')}"
            for side, size in self.sides.items()
        )
        out.append(f"split{' (given)' if self.given_split else ''}: {sizes}")
        out.append(f"overlap: {_count(self.overlap, 'question')} on more than one side")
        for what, lengths in (("prompts", self.prompt_tokens), ("answers", self.answer_tokens)):
            if lengths:
                out.append(
                    f"{what}: median {lengths.median:,}, 95 % up to {lengths.p95:,}, longest "
                    f"{lengths.longest:,} tokens; {_percent(lengths.cut)} cut at {lengths.limit:,}"
                )
        for number, row in enumerate(self.preview, 1):
            out.append(f"example {number}: {_short(row['question'])} -> {_short(row['answer'])}")
        return out


def check_config(
    config: TrainConfig, *, count_tokens: Callable[[list[str]], list[int]] | None
) -> DataReport:
    """Load, divide and report on the data that a config names.

    Args:
        config: The settings.
        count_tokens: As for :func:`check`.

    Raises:
        DataError: If the data cannot be used.
    """
    loaded, split = load_and_split(config)
    return check(
        loaded,
        split,
        count_tokens=count_tokens,
        template=PromptTemplate(config.prompt, config.context_prompt, config.history_prompt),
        max_source_tokens=config.max_source_tokens,
        max_target_tokens=config.max_target_tokens,
    )


def check(
    loaded: LoadedData,
    split: DataSplit,
    *,
    count_tokens: Callable[[list[str]], list[int]] | None,
    template: PromptTemplate,
    max_source_tokens: int,
    max_target_tokens: int,
) -> DataReport:
    """Report on loaded and divided data.

    Args:
        loaded: The examples, and the rows that gave none.
        split: Their division.
        count_tokens: Gives each text's length in the model's tokens, the end token included; None
            leaves lengths and cuts out of the report.
        template: Makes the prompts whose lengths are counted.
        max_source_tokens: Longer prompts are cut.
        max_target_tokens: Longer answers are cut.
    """
    sides = {"train": split.train, "validation": split.validation, "test": split.test}
    examples = [example for side in sides.values() for example in side]
    keys = {side: {_key(example) for example in rows} for side, rows in sides.items()}
    every_key = Counter(key for side in keys.values() for key in side)
    answers: dict[str, set[str]] = {}
    for example in examples:
        answers.setdefault(_key(example), set()).add(example.answer)
    repeated = Counter((e.question, e.context, e.history, e.answer) for e in examples)
    row_of = {e.id: row for e, row in zip(loaded.examples, loaded.rows, strict=True)}
    columns = {role: name for role, name in asdict(loaded.columns).items() if name}

    prompt_tokens = answer_tokens = None
    if count_tokens is not None:
        prompts = [template.render(e.question, e.context, e.history) for e in examples]
        prompt_tokens = _lengths(count_tokens(prompts), max_source_tokens)
        answer_tokens = _lengths(count_tokens([e.answer for e in examples]), max_target_tokens)
    return DataReport(
        source=loaded.source,
        columns=columns,
        rows_in_source=loaded.rows_in_source,
        rows_read=loaded.rows_read,
        rows_used=len({row_of[example.id] for example in examples}),
        examples=len(examples),
        dropped=_drop_reasons(
            [
                *((d.reason, d.row) for d in loaded.dropped),
                *dict.fromkeys((r.reason, row_of[r.id]) for r in split.removed),
            ]
        ),
        questions=len(every_key),
        duplicates=len(examples) - len(repeated),
        several_answers=sum(len(texts) > 1 for texts in answers.values()),
        sides={
            side: {"rows": len(rows), "questions": len(keys[side])} for side, rows in sides.items()
        },
        given_split=loaded.columns.split is not None,
        overlap=sum(count > 1 for count in every_key.values()),
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        preview=tuple(
            {"question": e.question, "answer": e.answer, "context": e.context}
            for e in loaded.examples[:PREVIEW_ROWS]
        ),
        fingerprint=split.fingerprint,
    )


def _key(example: QAExample) -> str:
    return question_key(example.question, example.context, example.history)


def _drop_reasons(drops: Sequence[tuple[str, int]]) -> tuple[DropReason, ...]:
    """The reasons, commonest first."""
    rows: dict[str, list[int]] = {}
    for reason, row in drops:
        rows.setdefault(reason, []).append(row)
    reasons = (
        DropReason(reason, len(where), tuple(sorted(where)[:FIRST_ROWS]))
        for reason, where in rows.items()
    )
    return tuple(sorted(reasons, key=lambda each: (-each.count, each.reason)))


def _lengths(counts: Sequence[int], limit: int) -> TokenLengths:
    ordered = sorted(counts)
    return TokenLengths(
        median=ordered[(len(ordered) - 1) // 2],
        p95=ordered[-(-len(ordered) * 95 // 100) - 1],
        longest=ordered[-1],
        limit=limit,
        cut=sum(count > limit for count in ordered) / len(ordered),
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _percent(share: float) -> str:
    """A share with its sign; a share above zero is never shown as 0 %."""
    return "under 1 %" if 0 < share < 0.01 else f"{share:.0%}".replace("%", " %")


def _short(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
