"""An evaluation's two files in its run.

``<n>.json`` holds the numbers, ``<n>.parquet`` a row an example. The JSON is written last, so an
evaluation whose JSON is there is whole.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_lora.data.example import question_key
from qa_lora.errors import RunError
from qa_lora.files import replaced_file
from qa_lora.report.found import BASE, SHARES, TUNED, ExampleResult, Report, questions_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from qa_lora.runs import Run

__all__ = [
    "column_names",
    "list_reports",
    "load_report",
    "read_report",
    "save_report",
    "to_table",
]

TRAITS = (*SHARES, "length_ratio")


def column_names(system: str, metrics: Sequence[str]) -> list[str]:
    """The columns that a system has in the table of examples."""
    return [system, *(f"{system}_{name}" for name in (*metrics, *TRAITS))]


def to_table(report: Report) -> pa.Table:
    """The examples as a table: the columns of the Parquet file.

    First id, question, references, base, tuned, the scores of both side by side, and context; then
    source, the answers and scores of further systems, and the traits of all answers.
    """
    import pyarrow as pa

    rows = report.examples
    columns: dict[str, pa.Array] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "question": pa.array([row.question for row in rows], pa.string()),
        "references": pa.array([list(row.references) for row in rows], pa.list_(pa.string())),
    }

    def answers(system: str) -> None:
        columns[system] = pa.array([row.answers[system] for row in rows], pa.string())

    def numbers(system: str, name: str, kept: str) -> None:
        values = [getattr(row, kept).get(system, {}).get(name) for row in rows]
        columns[f"{system}_{name}"] = pa.array(values, pa.float64())

    for system in (BASE, TUNED):
        answers(system)
    for metric in report.base:
        for system in (BASE, TUNED):
            numbers(system, metric, "scores")
    columns["context"] = pa.array([row.context for row in rows], pa.string())
    columns["source"] = pa.array([row.source for row in rows], pa.string())
    for system in report.systems[2:]:
        answers(system)
        for metric in report.base:
            numbers(system, metric, "scores")
    for system in report.systems:
        for name in TRAITS:
            numbers(system, name, "traits")
    return pa.table(columns)


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
    # Not the run's folder: it may have been moved to the trash while its answers were scored.
    folder.mkdir(exist_ok=True)
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
    """The numbers of the saved evaluations in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal())


def load_report(run: Run, number: int) -> Report:
    """Read evaluation `number` of a run.

    Raises:
        RunError: If there is none, or its files are damaged.
    """
    return read_report(run.evaluations_dir, number)


def read_report(folder: Path, number: int, *, examples: bool = True) -> Report:
    """Read evaluation `number` of an evaluations folder, of this version or an older one.

    Args:
        folder: The folder.
        number: Which one.
        examples: Read the rows, too; without them it is quick, for lists of many.

    Raises:
        RunError: If there is none, or its files are damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if number not in list_reports(folder):
        raise RunError(f"There is no evaluation {number} in {folder}.")
    try:
        values = _current(json.loads((folder / f"{number}.json").read_text("utf-8")))
        found = Report(**values)
        if not examples and found.test_fingerprint:
            return found
        rows = pq.read_table(folder / f"{number}.parquet").to_pylist()
        systems, metrics = found.systems, list(found.base)
        results = tuple(_example(row, systems, metrics) for row in rows)
        return dataclasses.replace(
            found,
            examples=results if examples else (),
            test_fingerprint=found.test_fingerprint or _fingerprint(results),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise RunError(f"Evaluation {number} in {folder} is damaged: {error}.") from None


def _current(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a report from its JSON, also from before there were more than two systems."""
    known = {f.name for f in dataclasses.fields(Report)} - {"examples"}
    old = {
        "scores": {BASE: values["base"], TUNED: values["tuned"]},
        "differences": {TUNED: values["difference"]},
        "shares": {BASE: {"cut": values["cut_base"]}, TUNED: {"cut": values["cut_tuned"]}},
        "asked": values["rows"],
    }
    return {**old, **{name: value for name, value in values.items() if name in known}}


def _fingerprint(rows: Sequence[ExampleResult]) -> str:
    return questions_fingerprint(
        (question_key(row.question, row.context), row.references) for row in rows
    )


def _example(row: dict[str, Any], systems: Sequence[str], metrics: Sequence[str]) -> ExampleResult:
    def numbers(system: str, names: Sequence[str]) -> dict[str, float]:
        values = {name: row.get(f"{system}_{name}") for name in names}
        return {name: value for name, value in values.items() if value is not None}

    traits = {system: numbers(system, TRAITS) for system in systems}
    return ExampleResult(
        id=row["id"],
        question=row["question"],
        context=row["context"],
        references=tuple(row["references"]),
        answers={system: row[system] for system in systems},
        scores={system: numbers(system, metrics) for system in systems},
        traits=traits if any(traits.values()) else {},
        source=row.get("source", ""),
    )
