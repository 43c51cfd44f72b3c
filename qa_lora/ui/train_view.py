"""What the Train tab shows of a run: everything read from its folder, nothing remembered."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from qa_lora import runs
from qa_lora.events import Downloading, MemoryRanOut, Probed, Recovered, RolledBack
from qa_lora.hub_downloads import describe
from qa_lora.report import FACT_ACCURACY
from qa_lora.turns import ordinal
from qa_lora.ui.charts import loss_chart
from qa_lora.ui.engine import Engine
from qa_lora.ui.series import Progress
from qa_lora.ui.words import duration, marked, note

__all__ = ["chart_html", "headline_html", "probes_html", "slot_html", "stats_html"]

_STATS = (
    ("Step", "Optimizer steps done, of all."),
    ("Epoch", "Passes over the training rows so far."),
    ("Loss", "Train loss of the last step, nats a label token."),
    ("Learning rate", "Step size of the optimizer now."),
    ("Speed", "Real source and target tokens a second, padding not counted."),
    ("Elapsed", "Time since the training began."),
    ("Left", "Estimated time to the last step."),
    ("Memory", "Most memory the training has used."),
)


def chart_html(run: runs.Run | None, progress: Progress, log: bool, smoothing: float) -> str:
    """The loss chart of a run, or an empty one that says what will stand there."""
    total = progress.started.total_steps if progress.started else 100
    waiting = "The losses will appear here." if run else "Press Start, and the loss appears here."
    return loss_chart(
        progress.steps, progress.losses, progress.validation, total,
        log=log, smoothing=smoothing, waiting=waiting,
    )  # fmt: skip


def stats_html(progress: Progress) -> str:
    """Step, epoch, loss, learning rate, speed, times and memory as a row of figures."""
    step, started = progress.last_step, progress.started
    values = ["–"] * len(_STATS)
    if started is not None:
        done = step.step if step else started.step
        values[0] = f"{done:,} <small>of {started.total_steps:,}</small>"
    if step is not None:
        over = progress.finished is not None or progress.failed is not None
        values[1:] = [
            f"{step.epoch:.2f}",
            f"{step.loss:.4g}",
            f"{step.learning_rate:.1e}".replace("e-0", "e-") if step.learning_rate else "0",
            f"{step.tokens_per_second:,.0f} <small>tok/s</small>",
            duration(step.elapsed_seconds),
            "–" if over else duration(step.eta_seconds),
            f"{step.peak_memory_bytes / 1e9:.1f} <small>GB</small>",
        ]
    tiles = (
        f'<div class="stat" title="{escape(help_text)}"><span>{name}</span><b>{value}</b></div>'
        for (name, help_text), value in zip(_STATS, values, strict=True)
    )
    notice = note(started.notice) if started is not None else ""
    return f'<div class="stats">{"".join(tiles)}</div>{notice}'


def probes_html(progress: Progress) -> str:
    """Held-out questions with the answers before training and now."""
    first, last = progress.first_probes, progress.last_probes
    if first is None or last is None:
        return (
            '<div class="empty probes"><b>Probe questions</b>A few held-out questions are answered '
            "before the first step and again and again while it trains.</div>"
        )
    rows = "".join(_probe_rows(first, last))
    return (
        '<div class="card"><table class="qa probes"><thead><tr><th>Probe question</th>'
        f'<th class="base">Step {first.step:,}</th><th class="tuned">{_later(first, last)}</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _later(first: Probed, last: Probed) -> str:
    return f"Step {last.step:,}" if last.step != first.step else "Later"


def _probe_rows(first: Probed, last: Probed) -> list[str]:
    before = {probe.question: probe.answer for probe in first.probes}
    rows = []
    for probe in last.probes:
        base, tuned = marked(before.get(probe.question, ""), probe.answer)
        if last.step == first.step:
            tuned = "…"
        hint, reference = "Held out; this is the answer in the data.", probe.reference
        if not reference:
            hint, reference = "From the setting for own probe questions.", "your question"
        rows.append(
            f'<tr><td data-label="Question">{escape(probe.question)}'
            f'<span class="ref" title="{hint}">{escape(reference)}</span>'
            f'</td><td data-label="Step {first.step:,}">{base}</td>'
            f'<td data-label="{_later(first, last)}">{tuned}</td></tr>'
        )
    return rows


def slot_html(engine: Engine, run: runs.Run | None, progress: Progress) -> str:
    """How it stands: what to do first, progress, the headline, or what went wrong."""
    if run is None and engine.serving.read_only:
        return (
            '<div class="headline"><div class="big">There are no runs here yet.</div><p>This demo '
            "shows the runs that its owner trains from the command line.</p></div>"
        )
    if run is None:
        return (
            '<div class="headline"><div class="big">Press Start.</div><p>The quick demo trains '
            "the bundled model in a minute or two and scores it on unseen questions.</p></div>"
        )
    status, alive = run.status(), run.alive()
    if status == "waiting":
        return _in_line(engine, run)
    done = progress.last_step.step if progress.last_step else 0
    if alive and progress.scoring is not None:
        scoring = progress.scoring
        text = f"{scoring.done:,} of {scoring.total:,} held-out questions, base and tuned"
        word = "Stopping" if run.stop_requested() else "Scoring"
        return _busy(word, text, scoring.done / max(1, scoring.total))
    if alive and progress.downloading is not None:
        return _downloading(progress.downloading, stopping=run.stop_requested())
    if status == "starting" or (alive and progress.started is None):
        return _busy("Starting", "The training process loads the model and the data.", 0.0)
    if status == "running":
        asked = run.stop_requested()
        left = duration(progress.last_step.eta_seconds) if progress.last_step else "…"
        total = progress.started.total_steps if progress.started else 0
        text = f"step {done:,} of {total:,}, about {left} left{_happened(progress)}"
        return _busy("Stopping" if asked else "Training", text, progress.fraction())
    if progress.scored is not None:
        scored = progress.scored
        return headline_html(scored.rows, scored.base, scored.tuned, scored.difference)
    if alive:
        return _busy("Finishing", "The held-out questions are scored next.", 1.0)
    return _ended(run, status, progress, done)


def _downloading(event: Downloading, *, stopping: bool) -> str:
    done, total = event.bytes_done, event.bytes_total
    text = f"{describe(event.model, done, total)}. Stop keeps what has arrived."
    return _busy("Stopping" if stopping else "Downloading", text, done / max(1, total))


def _in_line(engine: Engine, run: runs.Run) -> str:
    if run.stop_requested():
        return note("It gives up its place in line.")
    place, active = engine.place(run) or 1, engine.active()
    after = f"It starts by itself when {'its turn comes' if place > 1 else 'the run at work ends'}."
    at_work = f" At work is {active.id}." if active is not None else ""
    return (
        f'<div class="headline"><div class="big">Waiting · {ordinal(place)} in line</div>'
        f"<p>{escape(after + at_work)} Cancel gives the place up.</p></div>"
    )


def _happened(progress: Progress) -> str:
    """What went wrong on the way, as a clause."""
    if progress.backup is not None and progress.backup.error:
        return f"; there is no new backup: {progress.backup.error.rstrip('.')}"
    match progress.incident:
        case Recovered(step=step):
            return f"; it goes on from step {step:,}, for the checkpoint after it was damaged"
        case RolledBack(step=step, learning_rate=rate):
            return (
                f"; the loss was no number, so it went back to step {step:,} with a learning rate "
                f"of {rate:g}"
            )
        case MemoryRanOut(micro_rows=rows, micro_tokens=tokens):
            return (
                f"; memory ran out, so at most {rows:,} rows and {tokens:,} tokens are computed at "
                "once; the result stays the same"
            )
        case _:
            return ""


def _ended(run: runs.Run, status: str, progress: Progress, done: int) -> str:
    resume = ""
    if run.can_resume():
        goes_on = run.has_checkpoint()
        resume = " Resume goes on from the last checkpoint." if goes_on else " Resume begins it."
    kept = " The adapter is kept." if run.has_adapter() else ""
    if status == "failed" and progress.failed is not None:
        return note(f"{progress.failed.error} {progress.failed.hint}{kept}{resume}".strip(), "bad")
    if status == "interrupted":
        where = f" at step {done:,}" if done else " before its first step"
        restart = resume or " Press Start to train anew; worker.log in the run's folder says more."
        return note(f"The training process ended unexpectedly{where}.{kept}{restart}", "bad")
    if status == "damaged":
        return note("The settings of this run cannot be read.", "bad")
    if status == "stopped" and progress.started is None:
        return (
            '<div class="headline"><div class="big">Cancelled before it began.</div>'
            f"<p>{escape(resume.strip())}</p></div>"
        )
    loss = progress.finished.validation_loss if progress.finished else None
    detail = f" Validation loss {loss:.4g}." if loss is not None else ""
    word = "Stopped" if status == "stopped" else "Trained"
    return (
        f'<div class="headline"><div class="big">{word} at step {done:,}.</div>'
        f"<p>{escape((detail + kept + resume).strip())}</p></div>"
    )


def _busy(word: str, text: str, share: float) -> str:
    width = 100 * min(1.0, max(0.0, share))
    return (
        f'<div class="headline"><div class="big">{word} · {width:.0f} %</div>'
        f"<p>{escape(text)}</p>"
        f'<div class="bar"><i style="width:{width:.1f}%"></i></div></div>'
    )


def headline_html(
    rows: int,
    base: Mapping[str, float],
    tuned: Mapping[str, float],
    difference: Mapping[str, Mapping[str, float]],
    split: str = "test",
) -> str:
    """The sentence of :func:`qa_lora.report.headline` with base and tuned in their colours."""
    gain = difference["rougeL"]
    low, high, mean = (round(gain[key], 2) + 0.0 for key in ("low", "high", "mean"))
    sure = "" if low > 0 or high < 0 else " none"
    facts = ""
    if FACT_ACCURACY in tuned:
        facts = (
            f", right fact in <span class='nowrap'><b class='base'>{base.get(FACT_ACCURACY, 0):.0%}"
            f"</b> → <b class='tuned'>{tuned[FACT_ACCURACY]:.0%}</b></span> of the answers"
        ).replace("%", " %")
    plural = "" if rows == 1 else "s"
    questions = "held-out question" if split == "test" else f"{escape(split)} question"
    return (
        '<div class="headline good"><div class="big">'
        "<span title='Longest common subsequence with the reference, 0 to 1.'>ROUGE-L</span> "
        f'<span class="base">{base["rougeL"]:.2f}</span> → '
        f'<span class="tuned">{tuned["rougeL"]:.2f}</span> '
        f'<span class="gain{sure}">{mean:+.2f} [{low:.2f}, {high:.2f}]</span></div>'
        f"<p>On {rows:,} {questions}{plural}, 95 % interval in brackets{facts}</p></div>"
    )
