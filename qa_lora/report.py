"""What an evaluation found, its two files on disk, and the one sentence that sums it up.

``<n>.json`` holds the numbers, ``<n>.parquet`` a row an example. The JSON is written last, so an
evaluation whose JSON is there is complete.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_lora.errors import RunError
from qa_lora.files import replaced_file

if TYPE_CHECKING:
    import pyarrow as pa

    from qa_lora.events import Scored
    from qa_lora.runs import Run

__all__ = [
    "FACT_ACCURACY",
    "ExampleResult",
    "Report",
    "headline",
    "list_reports",
    "load_report",
    "read_report",
    "save_report",
]

FACT_ACCURACY = "fact_accuracy"
"""Name, beside the metrics of scoring, of the share of answers that contain the right facts."""


@dataclass(frozen=True)
class ExampleResult:
    """One question, its right answers, and how base and tuned did."""

    id: str
    question: str
    context: str
    references: tuple[str, ...]
    base: str
    tuned: str
    base_scores: dict[str, float]
    """A value a metric; fact_accuracy among them if the row names facts."""
    tuned_scores: dict[str, float]


@dataclass(frozen=True)
class Report:
    """Base and tuned on the same held-out questions."""

    rows: int
    """Questions; several right answers to one question count once."""
    split: str
    base: dict[str, float]
    """Mean of each metric over the questions; fact_accuracy among them if the data names facts."""
    tuned: dict[str, float]
    difference: dict[str, dict[str, float]]
    """For each metric, tuned minus base: mean, low, high, p_value."""
    cut_base: float
    """Share of the answers that ended only because max_new_tokens was reached."""
    cut_tuned: float
    seconds: float
    fingerprint: str
    """Of the split the questions come from."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How the answers were made: model, data, limit, seed and every generation setting."""
    number: int | None = None
    """The evaluation's number in its run; None if it was not saved."""
    examples: tuple[ExampleResult, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain JSON values, without the examples."""
        names = [f.name for f in dataclasses.fields(self) if f.name != "examples"]
        return {name: getattr(self, name) for name in names}

    def to_table(self) -> pa.Table:
        """The examples as a table: the columns of the Parquet file."""
        import pyarrow as pa

        rows = self.examples
        columns: dict[str, pa.Array] = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "question": pa.array([row.question for row in rows], pa.string()),
            "references": pa.array([list(row.references) for row in rows], pa.list_(pa.string())),
            "base": pa.array([row.base for row in rows], pa.string()),
            "tuned": pa.array([row.tuned for row in rows], pa.string()),
        }
        for metric in self.base:
            for side in ("base", "tuned"):
                values = [getattr(row, f"{side}_scores").get(metric) for row in rows]
                columns[f"{side}_{metric}"] = pa.array(values, pa.float64())
        columns["context"] = pa.array([row.context for row in rows], pa.string())
        return pa.table(columns)


def headline(result: Report | Scored | Mapping[str, Any]) -> str:
    """One sentence: ROUGE-L 0.31 -> 0.84, +0.53 [0.50, 0.56], right fact 88 %, 210 questions.

    Args:
        result: A report, a scored event, or the JSON of either.
    """
    if isinstance(result, Mapping):
        rows, base, tuned, difference = (
            result[name] for name in ("rows", "base", "tuned", "difference")
        )
    else:
        rows, base, tuned, difference = result.rows, result.base, result.tuned, result.difference
    gain = difference["rougeL"]
    parts = [
        f"ROUGE-L {base['rougeL']:.2f} -> {tuned['rougeL']:.2f}",
        f"{_plain(gain['mean']):+.2f} [{_plain(gain['low']):.2f}, {_plain(gain['high']):.2f}]",
    ]
    if FACT_ACCURACY in tuned:
        parts.append(f"right fact {tuned[FACT_ACCURACY]:.0%}".replace("%", " %"))
    parts.append(f"{rows} question" + ("" if rows == 1 else "s"))
    return ", ".join(parts)


def _plain(value: float) -> float:
    """Rounded, and never -0.00."""
    return round(value, 2) + 0.0


def save_report(report: Report, folder: Path) -> Report:
    """Write a report under the next free number.

    Args:
        report: What was found.
        folder: The run's evaluations folder; made if it is not there.

    Returns:
        The report with its number.

    Raises:
        RunError: If the folder cannot be written; nothing of the report is left behind.
    """
    import pyarrow.parquet as pq

    try:
        number = _reserve(folder)
        report = dataclasses.replace(report, number=number)
        try:
            with replaced_file(folder / f"{number}.parquet") as path:
                pq.write_table(report.to_table(), path)
            text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
            with replaced_file(folder / f"{number}.json") as path:
                path.write_text(text + "\n", "utf-8")
        except BaseException:
            (folder / f"{number}.parquet").unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunError(
            f"The evaluation cannot be saved in {folder}: {error.strerror or error}.",
            "Free some space or choose a folder that can be written.",
        ) from None
    return report


def _reserve(folder: Path) -> int:
    """Take the next number; its still empty Parquet file keeps others from taking it too."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(path.stem) for path in folder.iterdir() if path.stem.isdecimal()]
    number = max(taken, default=0) + 1
    while True:
        try:
            (folder / f"{number}.parquet").open("xb").close()
        except FileExistsError:
            number += 1
        else:
            return number


def list_reports(folder: Path) -> list[int]:
    """The numbers of the complete evaluations in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal())


def load_report(run: Run, number: int) -> Report:
    """Read evaluation `number` of a run.

    Raises:
        RunError: If there is none, or its files are damaged.
    """
    return read_report(run.evaluations_dir, number)


def read_report(folder: Path, number: int) -> Report:
    """Read evaluation `number` of an evaluations folder.

    Raises:
        RunError: If there is none, or its files are damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if number not in list_reports(folder):
        raise RunError(f"There is no evaluation {number} in {folder}.")
    known = {f.name for f in dataclasses.fields(Report)} - {"examples"}
    try:
        values = json.loads((folder / f"{number}.json").read_text("utf-8"))
        table = pq.read_table(folder / f"{number}.parquet")
        examples = tuple(_example(row) for row in table.to_pylist())
        return Report(**{k: v for k, v in values.items() if k in known}, examples=examples)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise RunError(f"Evaluation {number} in {folder} is damaged: {error}.") from None


def _example(row: dict[str, Any]) -> ExampleResult:
    scores: dict[str, dict[str, float]] = {"base": {}, "tuned": {}}
    for name, value in row.items():
        side, _, metric = name.partition("_")
        if metric and side in scores and value is not None:
            scores[side][metric] = value
    return ExampleResult(
        id=row["id"],
        question=row["question"],
        context=row["context"],
        references=tuple(row["references"]),
        base=row["base"],
        tuned=row["tuned"],
        base_scores=scores["base"],
        tuned_scores=scores["tuned"],
    )
