"""Two runs beside each other: settings that differ, scores, loss curves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from qa_lora.errors import QALoRAError
from qa_lora.fetching import base_commit
from qa_lora.report import BASE, TUNED, Report, list_reports, read_report
from qa_lora.report.leaderboard import ANSWER_SETTINGS
from qa_lora.run_summaries import setting_text
from qa_lora.runs import Run
from qa_lora.ui.evaluate.charts import COLOURS, Curve, curves_chart
from qa_lora.ui.evaluate.metrics import metric_help, metric_name, term
from qa_lora.ui.evaluate.table import signed
from qa_lora.ui.form import label_of
from qa_lora.ui.series import Followers
from qa_lora.ui.words import note

__all__ = ["comparison_html", "loss_curves"]

BASE_COMMIT = "Commit of the base"
MOST_REPORTS = 20
"""The newest evaluations of a run in which common questions are looked for."""


def comparison_html(one: Run, two: Run, names: tuple[str, str]) -> str:
    """The settings that differ, and the scores with a word on whether they can be compared.

    Args:
        one: The run that was chosen.
        two: The one that it is compared with.
        names: What they are called.
    """
    return (
        f'<div class="pair-of-cards">{_settings(one, two, names)}{_scores(one, two, names)}</div>'
    )


def loss_curves(followers: Followers, runs: Sequence[Run], names: Sequence[str], kind: str) -> str:
    """The losses of runs over each other.

    Args:
        followers: Reads their logs.
        runs: Up to eight runs.
        names: What they are called.
        kind: "validation" or "train".
    """
    curves = []
    for run, name, colour in zip(runs, names, COLOURS, strict=False):
        told = followers.progress(run)
        if kind == "train":
            steps, losses = list(told.steps), list(told.losses)
        else:
            steps = [step for step, _ in told.validation]
            losses = [loss for _, loss in told.validation]
        curves.append(Curve(name, colour, steps, losses))
    return curves_chart(curves, kind)


def _settings(one: Run, two: Run, names: tuple[str, str]) -> str:
    values: list[dict[str, Any]] = []
    for run in (one, two):
        try:
            config = run.config().model_dump(exclude={"name"})
            values.append({**config, BASE_COMMIT: base_commit(run.path)})
        except QALoRAError as error:
            return f'<div class="card"><h3>Settings</h3>{note(str(error), "bad")}</div>'
    left, right = values
    different = [
        (
            name if name == BASE_COMMIT else label_of(name),
            setting_text(left[name]),
            setting_text(right[name]),
        )
        for name in left
        if left[name] != right[name]
    ]
    if not different:
        return '<div class="card"><h3>Settings</h3><p>Both have the same settings.</p></div>'
    same = len(left) - len(different)
    return (
        f'<div class="card"><h3>Settings that differ</h3>{_table("Setting", names, different)}'
        f'<p class="subdued">The other {same} are the same.</p></div>'
    )


def _called(setting: str) -> str:
    return setting if setting == BASE_COMMIT else label_of(setting)


def _scores(one: Run, two: Run, names: tuple[str, str]) -> str:
    reports = [_reports(run) for run in (one, two)]
    missing = [name for name, found in zip(names, reports, strict=True) if not found]
    if missing:
        have, them = ("has", "it") if len(missing) == 1 else ("have", "them")
        text = f"{' and '.join(missing)} {have} not been scored: score {them} in the Evaluate tab."
        return f'<div class="card"><h3>Scores</h3>{note(text)}</div>'
    pairs = (
        (left, right)
        for left in reports[0]
        for right in reports[1]
        if left.test_fingerprint == right.test_fingerprint
    )
    pair = next(pairs, None)
    if pair is None:
        left, right = reports[0][0], reports[1][0]
        rows = [("Questions", f"{left.rows:,}", f"{right.rows:,}")]
        rows += [_score_row("rougeL", left, right)]
        warning = note(
            "These scores cannot be compared: the two were scored on different questions. Score "
            "both on the same ones, such as a file, in the Evaluate tab.",
            "warn",
        )
        return f'<div class="card"><h3>Scores</h3>{warning}{_table("", names, rows)}</div>'
    left, right = pair
    rows = [_score_row(m, left, right) for m in left.metrics if m in right.scores[TUNED]]
    said = f"Both on the same {left.rows:,} questions; in brackets the gain over the base."
    other = [n for n in ANSWER_SETTINGS if left.settings.get(n) != right.settings.get(n)]
    if other:
        texts = ", ".join(
            f"{n.replace('_', ' ')} {setting_text(left.settings.get(n))} and "
            f"{setting_text(right.settings.get(n))}"
            for n in other
        )
        said += f" The answers were made with other settings: {texts}."
    return (
        f'<div class="card"><h3>Scores</h3>{_table("Metric", names, rows)}'
        f'<p class="subdued">{escape(said)}</p></div>'
    )


def _reports(run: Run) -> list[Report]:
    """Its whole evaluations, the newest first."""
    found = []
    for number in list_reports(run.evaluations_dir)[-MOST_REPORTS:][::-1]:
        try:
            report = read_report(run.evaluations_dir, number, examples=False)
        except QALoRAError:
            continue
        if report.complete:
            found.append(report)
    return found


def _score_row(metric: str, left: Report, right: Report) -> tuple[str, str, str]:
    texts = []
    for report in (left, right):
        tuned, base = report.scores[TUNED].get(metric), report.scores[BASE].get(metric)
        gain = "" if tuned is None or base is None else f" ({signed(tuned - base)})"
        texts.append("–" if tuned is None else f"{tuned:.3f}{gain}")
    return metric, texts[0], texts[1]


def _table(first: str, names: tuple[str, str], rows: Sequence[tuple[str, str, str]]) -> str:
    heads = "".join(
        f'<th><i class="key-dot" style="--key:{colour}"></i>{escape(name)}</th>'
        for name, colour in zip(names, COLOURS, strict=False)
    )
    body = "".join(
        f"<tr><td>{_name(name)}</td>{''.join(f'<td>{escape(_sent(t))}</td>' for t in values)}</tr>"
        for name, *values in rows
    )
    return (
        '<div class="scroll" tabindex="0"><table class="metrics compared"><thead><tr>'
        f"<th>{first}</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _name(name: str) -> str:
    """A metric with its help, or the name of a setting."""
    known = metric_name(name)
    return term(known, metric_help(name)) if known != name else escape(name)


def _sent(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
