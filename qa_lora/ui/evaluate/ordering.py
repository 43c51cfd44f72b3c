"""What the form asks for, checked, and the progress of what was ordered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qa_lora.admission import is_inside, rows_to_score
from qa_lora.base_names import same_base
from qa_lora.errors import ConfigError, quoted
from qa_lora.runs import Run
from qa_lora.turns import ordinal
from qa_lora.ui.data_card import keep_upload
from qa_lora.ui.engine import Engine, Job, Order
from qa_lora.ui.words import duration, note

__all__ = ["MOST_ADAPTERS", "SPLITS", "job_html", "make_order", "on_upload"]

SPLITS = [
    ("test: never seen in training", "test"),
    ("validation", "validation"),
    ("train", "train"),
]
MOST_ADAPTERS = 4
"""Further adapters in one evaluation."""


def make_order(
    engine: Engine,
    run: Run,
    uploads: Path,
    split: str | None,
    adapters: Sequence[str] | None,
    rows: float | None,
    seed: float | None,
) -> Order:
    """The form's values, which come from a browser and may be anything, as an order.

    Raises:
        ConfigError: If one of them is not possible.
    """
    if rows is not None and not (_is_whole(rows) and rows >= 1):
        raise ConfigError(
            f"Rows must be a whole number of 1 or more (it is {quoted(rows)}).", "Empty means all."
        )
    if seed is None or not _is_whole(seed) or not 0 <= seed < 2**32:
        raise ConfigError("The seed must be a whole number from 0 to 4,294,967,295.")
    adapters = [str(name) for name in adapters] if isinstance(adapters, list) else []
    allowed = engine.adapters.fitting(run)
    model = run.config().model
    for name in adapters:
        if name in allowed:
            continue
        if name == run.id:
            raise ConfigError(f"{name} is the run in view, which is scored in any case.")
        other = engine.find(name)
        if other is not None and other.has_adapter():
            base = other.config().model
            what = "another state of its base" if same_base(base, model) else "another base"
            raise ConfigError(
                f"The adapter of {name} is of {what}, {base}: it cannot answer on {model}.",
                "Choose runs that were trained on the same base model.",
            )
        raise ConfigError(f"There is no run {quoted(name)} with an adapter here.")
    if len(adapters) > MOST_ADAPTERS:
        raise ConfigError(f"At most {MOST_ADAPTERS} other adapters are scored at once.")
    file = None
    if split not in [value for _, value in SPLITS]:
        file = Path(str(split or ""))
        if not is_inside(file, uploads):
            raise ConfigError("That file is not there any more.", "Upload it again.")
    return Order(
        split=split if file is None and split else "test",
        limit=rows_to_score(engine.serving, None if rows is None else int(rows)),
        seed=int(seed),
        file=file,
        adapters=tuple(dict.fromkeys(adapters)),
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def on_upload(engine: Engine, uploads: Path, run: Run | None, path: str) -> tuple[Path, str]:
    """Keep an uploaded file, and say how many of its questions can be scored.

    Raises:
        QALoRAError: If it cannot be read, has no references, or no question is left.
    """
    kept = keep_upload(path, uploads)
    engine.warm_up()
    from qa_lora.evaluation.asked import find_questions

    asked = find_questions(run, split="test", limit=None, seed=0, file=kept)
    plural = "" if len(asked.questions) == 1 else "s"
    return kept, (
        f"{kept.name}: {len(asked.questions):,} question{plural} to score. "
        "What the run was trained on is left out."
    )


def job_html(job: Job | None) -> str:
    """How far a scoring is."""
    if job is None:
        return ""
    if job.state == "failed":
        return note(job.error, "bad")
    if job.state == "done":
        if job.cancelled and job.number is None:
            return note("Cancelled before the first questions were finished: nothing is kept.")
        return ""
    share = job.done / job.total if job.total else 0.0
    title = f"Scoring · {100 * share:.0f} %"
    goes_on = " It goes on when this page is closed."
    if job.state == "waiting":
        title = "Waiting for the model"
        text = "It is in use."
        if job.place:
            text = f"{ordinal(job.place)} in line: the model is in use."
    elif job.state == "loading":
        text = "Loading the model and the questions."
    else:
        text = f"{job.done:,} of {job.total:,} questions answered"
        if job.eta_seconds is not None:
            text += f", about {duration(job.eta_seconds)} left"
        text += "."
    if job.cancelled:
        title, goes_on = "Stopping", " What is finished is kept."
    return (
        f'<div class="headline" role="status"><div class="big">{title}</div>'
        f'<p>{text}{goes_on}</p><div class="bar"><i style="width:{100 * share:.1f}%"></i></div>'
        "</div>"
    )
