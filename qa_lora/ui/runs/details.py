"""The run that was chosen in the table: what is known of it, and what can be done with it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from html import escape

from qa_lora.errors import QALoRAError
from qa_lora.run_summaries import RunSummary, setting_text
from qa_lora.runs import Run
from qa_lora.ui.form import label_of
from qa_lora.ui.runs.table import status_text
from qa_lora.ui.words import duration, note

__all__ = ["Possible", "details_html", "possible"]


@dataclass(frozen=True)
class Possible:
    """Which buttons can be pressed; read from the run's folder, not from its row."""

    open: bool
    resume: bool
    stop: bool
    waits: bool
    """It has not begun, so to stop is to cancel."""
    go_on: bool
    download: bool
    delete: bool
    label: bool
    """Whether its name and note can be written."""


def possible(run: Run, *, own: bool = True) -> Possible:
    """What can be done with a run now.

    Args:
        run: The run.
        own: Whether it is the visitor's, so that they may change it.
    """
    alive, here = run.alive(), not run.path.is_symlink()
    rests = here and not alive
    return Possible(
        open=here,
        resume=own and here and run.can_resume(),
        stop=own and alive and not run.stop_requested(),
        waits=run.status() == "waiting",
        go_on=rests and (run.adapter / "adapter_config.json").is_file(),
        download=own and rests,
        delete=own and not alive,
        label=own,
    )


def details_html(run: Run, row: RunSummary, *, own: bool = True) -> str:
    """Everything a row has no room for; of what is not the visitor's `own`, that it is not."""
    facts = [("Status", status_text(row)), ("Id", row.id)]
    if row.created:
        made = datetime.fromtimestamp(row.created)
        facts.append(("Made", f"{made:%Y-%m-%d %H:%M}"))
    facts += [("Model", row.model), ("Data", row.data)]
    if row.total_steps is not None:
        facts.append(("Steps", f"{row.step or 0:,} of {row.total_steps:,}"))
    if row.seconds is not None:
        facts.append(("Training time", duration(row.seconds)))
    if row.best_validation_loss is not None:
        facts.append(("Best validation loss", f"{row.best_validation_loss:.4f} nats a token"))
    if row.rouge_base is not None and row.rouge_tuned is not None:
        gain = f"{row.rouge_tuned - row.rouge_base:+.2f}"
        facts.append(("ROUGE-L", f"{row.rouge_base:.2f} → {row.rouge_tuned:.2f} ({gain})"))
    facts += [("Settings", _settings(run)), ("On the disk", _size(run))]
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts if text)
    rest = "Nothing else is harmed; it can be deleted." if own else "Nothing else is harmed."
    wrong = note(f"{row.damage} {rest}", "bad")
    others = "" if own else '<p class="subdued">Not yours: you can open and ask it.</p>'
    told = f'<p class="run-note">{escape(row.note)}</p>' if row.note else ""
    return (
        f'{wrong if row.damage else ""}<div class="card"><h3>{escape(row.name)}</h3>{told}{others}'
        f"<dl>{items}</dl></div>"
    )


def _settings(run: Run) -> str:
    try:
        changed = run.config().changed()
    except QALoRAError:
        return ""
    hidden = ("name", "model", "data")
    texts = [f"{label_of(n)}: {setting_text(v)}" for n, v in changed.items() if n not in hidden]
    # Halves of characters, of a file's name that is not UTF-8, cannot be sent.
    return "; ".join(texts).encode("utf-8", "replace").decode("utf-8") or "all as by default"


def _size(run: Run) -> str:
    """What its files take; links are not followed."""
    total = 0
    for folder, _, names in os.walk(run.path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - many files
            except OSError:
                continue  # gone meanwhile
    return f"{total / 1e6:,.1f} MB"
