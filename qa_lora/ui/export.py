"""An evaluation as files to take away: CSV for spreadsheets, JSON for scripts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from qa_lora.formulas import neutralise
from qa_lora.report import Report

__all__ = ["to_csv", "to_json", "write_downloads"]


def to_csv(report: Report) -> str:
    """A row an example: question, context, references, both answers, both scores of each metric."""
    metrics = list(report.base)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    sides = [f"{side}_{metric}" for metric in metrics for side in ("base", "tuned")]
    writer.writerow(["id", "question", "context", "references", "base", "tuned", *sides])
    for row in report.examples:
        texts = (row.id, row.question, row.context, "\n".join(row.references), row.base, row.tuned)
        scores = [
            side.get(metric, "")
            for metric in metrics
            for side in (row.base_scores, row.tuned_scores)
        ]
        writer.writerow([*map(neutralise, texts), *scores])
    return out.getvalue()


def to_json(report: Report) -> str:
    """The numbers and all examples."""
    values = {
        **report.to_dict(),
        "examples": [example.to_dict() for example in report.examples],
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def write_downloads(report: Report, name: str, folder: Path) -> tuple[str, str]:
    """Write both files; evaluations do not change, so files that are there are left alone.

    Args:
        report: What was found.
        name: How the files are called, without an ending.
        folder: Where they are written.

    Returns:
        The paths of the CSV and the JSON file.
    """
    as_csv, as_json = folder / f"{name}.csv", folder / f"{name}.json"
    if not as_json.exists():
        # The mark at the start tells spreadsheets that this is UTF-8.
        as_csv.write_text(to_csv(report), "utf-8-sig", newline="")
        as_json.write_text(to_json(report), "utf-8")
    return str(as_csv), str(as_json)
