"""An evaluation as files to take away: CSV, JSON, Parquet, and a report in Markdown with plots."""

from __future__ import annotations

import csv
import io
import json
import shutil
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

from qa_lora.files import replaced_file
from qa_lora.formulas import neutralise
from qa_lora.report import Report, column_names
from qa_lora.report.markdown import to_markdown
from qa_lora.ui.evaluate.plots import plots

__all__ = ["Downloads", "to_csv", "to_json", "to_zip", "write_downloads"]

_WRITING = threading.Lock()


@dataclass(frozen=True)
class Downloads:
    """The paths of an evaluation's files."""

    csv: str
    json: str
    parquet: str | None
    """None where the run has none."""
    report: str


def to_csv(report: Report) -> str:
    """A row an example: its texts, and of each system the answer, scores and traits.

    Cells that a spreadsheet would run as formulas are made harmless.
    """
    table = report.to_table().to_pylist()
    texts = ["id", "question", "context", "references", "source", *report.systems]
    numbers = [
        name
        for system in report.systems
        for name in column_names(system, report.metrics)[1:]
        if table and name in table[0]
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*map(neutralise, texts), *map(neutralise, numbers)])
    for row in table:
        row["references"] = "\n".join(row["references"])
        values = ["" if row[name] is None else row[name] for name in numbers]
        writer.writerow([*(neutralise(row[name]) for name in texts), *values])
    return out.getvalue()


def to_json(report: Report) -> str:
    """The numbers and all examples."""
    values = {
        **report.to_dict(),
        "examples": [example.to_dict() for example in report.examples],
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def to_zip(report: Report) -> bytes:
    """report.md for a model card, and the plots that it shows, beside it in a folder."""
    pictures = plots(report)
    paths = {title: f"plots/{name}.svg" for title, (name, _) in pictures.items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("report.md", to_markdown(report, paths))
        for title, (_, svg) in pictures.items():
            file.writestr(paths[title], svg)
    return out.getvalue()


def write_downloads(report: Report, name: str, folder: Path, parquet: Path) -> Downloads:
    """Write all files; those that are there are left alone.

    Args:
        report: What was found.
        name: How the files are called, without an ending.
        folder: Where they are written, made if it is not there; one for each evaluation that may
            have this name, for its number is given again once it is deleted.
        parquet: The run's own file of the rows.
    """
    paths = {kind: folder / f"{name}.{kind}" for kind in ("csv", "json", "parquet", "zip")}
    with _WRITING:  # two pages may open the same evaluation at once
        if not paths["zip"].exists():
            folder.mkdir(parents=True, exist_ok=True)
            # The mark at the start tells spreadsheets that this is UTF-8.
            paths["csv"].write_text(to_csv(report), "utf-8-sig", newline="")
            paths["json"].write_text(to_json(report), "utf-8")
            if parquet.is_file():
                shutil.copyfile(parquet, paths["parquet"])
            with replaced_file(paths["zip"]) as path:
                path.write_bytes(to_zip(report))
    return Downloads(
        str(paths["csv"]),
        str(paths["json"]),
        str(paths["parquet"]) if paths["parquet"].is_file() else None,
        str(paths["zip"]),
    )
