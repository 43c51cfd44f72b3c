"""What the command line shows: progress bars in a terminal, plain lines when piped, tables."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from qa_lora.events import (
    BackedUp,
    Checkpointed,
    Downloading,
    Evaluated,
    Event,
    Finished,
    MemoryRanOut,
    Probed,
    Recovered,
    RolledBack,
    Scored,
    Scoring,
    Started,
    Step,
    StreamEnded,
)
from qa_lora.report import LABELS, Report, beside, headline
from qa_lora.report.verdict import verdict
from qa_lora.runs import Run
from qa_lora.turns import ordinal

if TYPE_CHECKING:
    from qa_lora.data.report import DataReport
    from qa_lora.estimate import Estimate
    from qa_lora.hub_downloads import Download
    from qa_lora.run_summaries import RunSummary

__all__ = [
    "Bar",
    "Downloads",
    "Training",
    "hang_up",
    "plain",
    "say",
    "show_answers",
    "show_estimate",
    "show_evaluation",
    "show_headline",
    "show_place",
    "show_report",
    "show_runs",
    "show_scores",
    "show_table",
    "silence",
]

PLAIN_LINES = 20
"""When piped, a training is told in about this many lines."""


_STEERS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Characters that a terminal obeys: a row of data could set its title, or hide what it says."""


def plain(text: str) -> str:
    """A text that steers no terminal."""
    return text.translate(_STEERS)


class _Console(Console):
    """Goes on in silence when its reader has left: `| head` must not end a training.

    Nothing that it shows steers the terminal, but its own colours and bars.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The pieces of what is shown."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(plain(piece.text), piece.style)

    def on_broken_pipe(self) -> None:
        hang_up()


_out = _Console(highlight=False, soft_wrap=True)
_err = _Console(stderr=True, highlight=False, soft_wrap=True)


def hang_up() -> None:
    """Show nothing more: nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


class Bar:
    """A progress bar on stderr; a few plain lines where that is no terminal."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title = title
        self._quiet = quiet and not _err.is_terminal
        self._said = -1
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=_err,
            transient=True,
            disable=not _err.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show how much is done; the first call shows the bar."""
        if self._task is None:
            self._task = self._progress.add_task(self._title, total=total, note=note)
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total, note=note)
        share = done * PLAIN_LINES // max(total, 1)
        if not _err.is_terminal and not self._quiet and share != self._said:
            self._said = share
            _err.print(f"{self._title} {done}/{total} {note}".rstrip(), markup=False)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


class Downloads:
    """Shows how far models are on their way from the Hub."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Bar | None = None

    def show(self, download: Download) -> None:
        """Show one, as :func:`qa_lora.hub_downloads.watched` tells of it."""
        if download.ended:
            self.close()
        else:
            self.update(download.repo, download.done, download.total)

    def update(self, model: str, done: int, total: int) -> None:
        """Show how many bytes of a model are here; nothing before it is known of how many."""
        if not total:
            return
        if self._bar is None:
            self._bar = Bar(f"Downloading {model}", quiet=self._quiet)
        self._bar.update(done // 1_000_000, max(1, total // 1_000_000), "MB")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Training:
    """Shows the events of a training."""

    def __init__(self, run: Run, *, quiet: bool) -> None:
        self._run = run
        self._quiet = quiet
        self._bar = Bar("Training", quiet=quiet)
        self._scoring = Bar("Scoring", quiet=quiet)
        self._downloads = Downloads(quiet=quiet)
        self._total = 0

    def __enter__(self) -> Training:
        say(f"Run {self._run.id} in {self._run.path}", quiet=self._quiet)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._scoring.close()
        self._downloads.close()

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Downloading():
                self._downloads.update(event.model, event.bytes_done, event.bytes_total)
            case Started():
                self._downloads.close()
                self._total = event.total_steps
                together = f", {event.processes} processes" if event.processes > 1 else ""
                share = 100 * event.trainable_parameters / event.all_parameters
                say(
                    f"{event.device}{together}, {event.precision}; "
                    f"{event.trainable_parameters:,} of "
                    f"{event.all_parameters:,} parameters are trained ({share:.2f} %)\n"
                    f"{event.train_rows:,} rows to train on, {event.validation_rows:,} to steer, "
                    f"{event.test_rows:,} held out",
                    quiet=self._quiet,
                )
                if event.notice:
                    say(event.notice, quiet=self._quiet)
            case Step():
                self._bar.update(
                    event.step,
                    self._total,
                    f"loss {event.loss:.3f}  {event.tokens_per_second:,.0f} tokens/s",
                )
            case StreamEnded():
                self._total = event.total_steps
                say(
                    f"step {event.step}: the stream has ended; {event.train_rows:,} rows to train "
                    f"on, {event.total_steps:,} steps in all",
                    quiet=self._quiet,
                )
            case MemoryRanOut():
                say(
                    f"step {event.step}: memory ran out, so at most {event.micro_rows} rows and "
                    f"{event.micro_tokens:,} tokens are computed at once; the result stays the "
                    "same",
                    quiet=self._quiet,
                )
            case Evaluated():
                rouge = "" if event.rougeL is None else f", ROUGE-L {event.rougeL:.3f}"
                say(
                    f"step {event.step}: validation loss {event.loss:.4f}, "
                    f"perplexity {event.perplexity:.2f}{rouge}",
                    quiet=self._quiet,
                )
            case Recovered():
                say(f"{event.reason} It goes on from step {event.step}.", quiet=self._quiet)
            case BackedUp() if event.error:
                say(f"No backup of step {event.step}: {event.error}", quiet=self._quiet)
            case RolledBack():
                say(
                    f"{event.reason} It goes back to step {event.step} and on with a learning rate "
                    f"of {event.learning_rate:g}.",
                    quiet=self._quiet,
                )
            case Finished():
                self._bar.close()
                self._downloads.close()
                loss = event.validation_loss
                where = (
                    f"; the adapter is in {self._run.adapter}" if self._run.has_adapter() else ""
                )
                kept = f", validation loss {loss:.4f}" if loss is not None else ""
                say(
                    f"{event.reason.replace('_', ' ').capitalize()} after {event.step} steps and "
                    f"{event.seconds:.0f} s{kept}{where}",
                    quiet=self._quiet,
                )
            case Scoring():
                self._scoring.update(event.done, event.total)
            case Scored():
                self._scoring.close()
                show_scores(event.base, event.tuned, event.difference, quiet=self._quiet)
                show_headline(event, quiet=self._quiet)
            case Probed():
                for probe in event.probes:
                    # Held-out questions are for the page; own ones were asked to be seen here.
                    if not probe.reference:
                        say(f"  {probe.question} -> {probe.answer}", quiet=self._quiet)
            case Checkpointed():
                pass


def silence() -> None:
    """Show nothing from now on: another process of the same training does."""
    _out.quiet = _err.quiet = True


def say(text: str, *, quiet: bool = False) -> None:
    """A line for a person; nothing when the output is for a machine."""
    if not quiet:
        # Where both are one terminal, lines go the way of the bar, which makes room for them.
        shared = _out.is_terminal and _err.is_terminal
        (_err if shared else _out).print(text, markup=False)


def show_scores(
    base: Mapping[str, float],
    tuned: Mapping[str, float],
    difference: Mapping[str, Mapping[str, float]],
    *,
    name: str = "tuned",
    quiet: bool = False,
) -> None:
    """The table of metrics: base, another system, and the difference with its 95 % interval.

    p is not corrected, and p (all) is, for all metrics and systems of the evaluation.
    """
    if quiet:
        return
    table = Table("metric")
    for title in ("base", name, "difference", "95 % interval", "p", "p (all)"):
        table.add_column(Text(title), justify="right")
    for metric in base:
        gain = difference.get(metric, {})
        table.add_row(
            LABELS.get(metric, metric),
            f"{base[metric]:.3f}",
            f"{tuned[metric]:.3f}",
            f"{gain.get('mean', math.nan):+.3f}",
            f"[{gain.get('low', math.nan):.3f}, {gain.get('high', math.nan):.3f}]",
            f"{gain.get('p_value', math.nan):.4f}",
            f"{gain['p_adjusted']:.4f}" if "p_adjusted" in gain else "",
        )
    _out.print(table)


def show_evaluation(report: Report, *, quiet: bool = False) -> None:
    """The scores of each system beside the base's, what stands beside them, and what it means."""
    if quiet:
        return
    for system, gains in report.differences.items():
        show_scores(report.base, report.scores[system], gains, name=system)
    table = Table("", box=None)
    for system in report.systems:
        table.add_column(Text(system), justify="right")
    for name, values in beside(report):
        table.add_row(name, *values)
    _out.print(table)
    for system, effect in report.effect.items():
        if not effect["acts"]:
            _out.print(Text(f"! The adapter {system} does nothing to these questions.", "yellow"))
    found = verdict(report)
    say(f"{found.title} {found.text}")
    show_headline(report)


def show_headline(result: Report | Scored, *, quiet: bool = False) -> None:
    """The one sentence that sums an evaluation up."""
    say(headline(result), quiet=quiet)


def show_answers(answers: Mapping[str, str], *, quiet: bool = False) -> None:
    """The answers of base, tuned and further adapters, one under the other."""
    if quiet:
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, text in answers.items():
        table.add_row(Text(_tame(name), style="" if name == "base" else "bold"), Text(_tame(text)))
    _out.print(table)


def _tame(text: str) -> str:
    """Text that moves no cursor and turns no line around: control characters are replaced."""
    turning = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return "".join(
        "\ufffd" if char in turning or (char not in "\n\t" and category(char) == "Cc") else char
        for char in text
    )


def show_report(report: DataReport, *, quiet: bool = False) -> None:
    """The data report: warnings first, then facts, histograms, and what the model sees."""
    if quiet:
        return
    from qa_lora.data.histogram import bars
    from qa_lora.data.report import shorten_line

    _out.print(Text(f"Data check · {report.source}", style="bold"))
    for warning in report.warnings:
        _out.print(Text(f"! {warning}", style="yellow"))
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    drawn = {"Prompts": report.prompt_tokens, "Answers": report.answer_tokens}
    for fact in report.facts():
        table.add_row(fact.name, Text(fact.text))
        if lengths := drawn.get(fact.name):
            table.add_row("", Text("\n".join(bars(lengths)), style="cyan"))
    for pair in report.overlap_pairs[:5]:
        sides = f"{pair.side}: {pair.question}\n{pair.other_side}: {pair.other_question}"
        table.add_row(pair.alike, Text(sides))
    for seen in report.seen:
        for name, text in (("Model reads", seen.input), ("and learns", seen.label)):
            shown = Text(text.before)
            if text.cut:
                cut = shorten_line(text.cut, 80)
                shown.append(f"[cut: {cut}]", style="red").append(text.after)
            shown.append(f"  ({len(text.ids):,} of {text.whole_tokens:,} tokens)", style="dim")
            table.add_row(name, shown)
    _out.print(table)


def show_place(run: Run, place: int, *, quiet: bool = False) -> None:
    """Where a waiting run stands in line."""
    say(f"The run {run.id} is {ordinal(place)} in line; Ctrl-C cancels it.", quiet=quiet)


def show_estimate(found: Estimate, *, quiet: bool = False) -> None:
    """What a training needs: memory by parts, then time."""
    if quiet:
        return
    table = Table("memory", Column("GB", justify="right"), "", box=None)
    for part in found.parts:
        table.add_row(part.name, f"{part.bytes / 1e9:.3f}", part.why)
    table.add_row("together", found.memory.removesuffix(" GB"), "")
    _out.print(table)
    low, high = found.tokens_per_second
    say(found.sentence)
    say(
        f"{found.steps:,} steps, {found.epochs:.1f} epochs: about {found.time}; an epoch takes "
        f"{found.epoch_time}, at {low:,.0f} to {high:,.0f} tokens/s by {found.speed_from}."
    )


def show_runs(found: Sequence[RunSummary], runs_dir: Path, *, quiet: bool = False) -> None:
    """The table of runs."""
    if quiet:
        return
    if not found:
        say(f"There are no runs in {runs_dir} yet; qa-lora demo makes one.")
        return
    statuses = [
        f"{row.status} ({ordinal(row.place)})" if row.place else row.status for row in found
    ]
    named = any(row.title for row in found)
    # Ids are there to be copied, and the status to be read: the other columns give way.
    table = Table(
        Column("run", no_wrap=True, min_width=max(len(row.id) for row in found)),
        *(["name"] if named else []),
        Column("status", min_width=max(map(len, statuses))),
        "data",
        box=None,
    )
    for title in ("steps", "val. loss", "ROUGE-L", "time"):
        table.add_column(title, justify="right")
    for row, status in zip(found, statuses, strict=True):
        steps = f"{row.step or 0}/{row.total_steps if row.total_steps is not None else '?'}"
        loss, base, tuned = (
            "" if value is None else f"{value:.{places}f}"
            for value, places in (
                (row.best_validation_loss, 4), (row.rouge_base, 2), (row.rouge_tuned, 2),
            )
        )  # fmt: skip
        scores = f"{base} -> {tuned}" if base else ""
        took = "" if row.seconds is None else f"{row.seconds:.0f} s"
        called = [_tame(row.title)] if named else []
        cells = (row.id, *called, status, _tame(row.data), steps, loss, scores, took)
        table.add_row(*map(Text, cells))
    _out.print(table)
    for row in found:
        if row.damage:
            _out.print(Text(f"! {row.id} is damaged: {_tame(row.damage)}", "yellow"))


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, quiet: bool = False
) -> None:
    """Rows of words."""
    if not quiet:
        table = Table(*columns, box=None)
        for row in rows:
            table.add_row(*map(Text, row))
        _out.print(table)
