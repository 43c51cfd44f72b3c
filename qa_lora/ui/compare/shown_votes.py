"""What the votes on a run add up to, and the files of them to take away."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from qa_lora.errors import QALoRAError
from qa_lora.files import replaced_file
from qa_lora.ui.compare.tables import tally_html
from qa_lora.ui.engine import Engine
from qa_lora.ui.words import note
from qa_lora.votes import list_votes, tally, votes_csv, votes_json

if TYPE_CHECKING:
    from qa_lora.ui.compare.blind import Blind

__all__ = ["shown_tally"]

_WRITING = threading.Lock()
"""Two pages may look at the same votes at once."""


def shown_tally(
    engine: Engine, blind: Blind, run_id: str | None, downloads: Path
) -> dict[Any, Any]:
    """What the votes on the run add up to, and the files of them."""
    hidden = {part: gr.DownloadButton(interactive=False) for part in (blind.as_csv, blind.as_json)}
    run = engine.find(run_id)
    if run is None:
        return {blind.tally: tally_html([]), **hidden}
    try:
        votes = [
            v for v in list_votes(engine.runs_dir, run.id) if engine.access.sees_vote(v.visitor)
        ]
        if not votes:
            return {blind.tally: tally_html([]), **hidden}
        # By their number: votes are only ever added, so another file is written for more of them.
        name = f"{run.id}-votes-{len(votes)}"
        # The same number of votes is of other votes where each visitor sees their own.
        folder = downloads / (votes[0].visitor if engine.serving.public else "")
        folder.mkdir(exist_ok=True)
        files = folder / f"{name}.csv", folder / f"{name}.json"
        with _WRITING, replaced_file(files[0]) as new_csv, replaced_file(files[1]) as new_json:
            new_csv.write_text(votes_csv(votes), "utf-8-sig", newline="")
            new_json.write_text(votes_json(votes), "utf-8")
    except (QALoRAError, OSError) as error:
        return {blind.tally: note(str(error), "bad"), **hidden}
    return {
        blind.tally: tally_html(tally(votes)),
        blind.as_csv: gr.DownloadButton(value=str(files[0]), interactive=True),
        blind.as_json: gr.DownloadButton(value=str(files[1]), interactive=True),
    }
