"""An evaluation in numbers: the headline, the table of metrics, what stands beside, slices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from qa_lora.report import BASE, TUNED, Report
from qa_lora.report.slices import Slice
from qa_lora.report.verdict import SURE, verdict
from qa_lora.ui.evaluate.metrics import BESIDE, STATISTICS, metric_help, metric_name, term
from qa_lora.ui.words import duration, note

__all__ = [
    "beside_html",
    "headline_html",
    "interval",
    "metrics_html",
    "reach_of",
    "signed",
    "slices_html",
    "span_html",
    "system_name",
]

SPLITS = {"test": "held-out", "validation": "validation", "train": "train"}


def system_name(system: str) -> str:
    """What a system is called on the page."""
    return {BASE: "Base", TUNED: "Tuned"}.get(system, system)


def headline_html(report: Report, run_id: str) -> str:
    """Did tuning pay, how much, how sure; and if it was cut short, that it was.

    Args:
        report: With its examples, if it is of several adapters.
        run_id: The run whose adapter is "tuned".
    """
    names = {TUNED: run_id} if len(report.systems) > 2 else {}
    found = verdict(report, names=names)
    gain = report.differences[found.system]["rougeL"]
    before, after = (report.scores[name]["rougeL"] for name in (BASE, found.system))
    sure = "" if found.kind == "better" else " none"
    plural = "" if report.rows == 1 else "s"
    of = f" of {report.asked:,}" if report.asked > report.rows else ""
    data = escape(str(report.settings.get("data", "")))
    if report.split == "file":
        questions = f"question{plural} of the file {data}"
    else:
        questions = f"{escape(SPLITS.get(report.split, report.split))} question{plural}"
    took = f"; answered in {duration(report.seconds)}" if report.seconds else ""
    numbers = (
        f'{term("ROUGE-L", metric_help("rougeL"))} <span class="nowrap">'
        f'<span class="base">{before:.2f}</span> → '
        f'<span class="tuned">{after:.2f}</span></span> '
        f'<span class="gain{sure}">{signed(gain["mean"])} {interval(gain)}</span>'
    )
    return (
        f'<div class="headline is-{found.kind}"><div class="big">{escape(found.title)} '
        f"{numbers}</div><p>{escape(found.text)}</p>"
        f"<p>On {report.rows:,}{of} {questions}, 95 % interval in brackets{took}.</p></div>"
        f"{incomplete_html(report)}"
    )


def incomplete_html(report: Report) -> str:
    """The mark of an evaluation that was stopped."""
    if report.complete:
        return ""
    return note(
        f"Incomplete: stopped after {report.rows:,} of {report.asked:,} questions; these are a "
        "fair sample, for they were asked in an order drawn at random.",
        "warn",
    )


def metrics_html(report: Report, system: str = TUNED) -> str:
    """A row a metric: everybody's mean, and the difference of one adapter, drawn and written.

    Args:
        report: What was found.
        system: The adapter whose difference from the base is shown.
    """
    gains = report.differences[system]
    reach = reach_of([gains[name] for name in report.metrics if name in gains])
    adjusted = any("p_adjusted" in gain for gain in gains.values())
    detectable = any(gain.get("detectable") is not None for gain in gains.values())
    heads = "".join(
        f'<th class="n {_tone(name, system)}">{escape(system_name(name))}</th>'
        for name in report.systems
    )
    columns = ["Difference", "95 % interval"]
    ends = ["p", *(["p adjusted"] if adjusted else []), *(["Detectable"] if detectable else [])]
    before, after = (
        "".join(f'<th class="n">{term(name, STATISTICS[name])}</th>' for name in names)
        for names in (columns, ends)
    )
    rows = "".join(
        _metric_row(report, metric, system, reach, adjusted, detectable)
        for metric in report.metrics
    )
    of = f" of {escape(system_name(system))}" if len(report.systems) > 2 else ""
    return (
        f'<div class="card"><h3>Scores, and the difference{of} from the base</h3>'
        '<div class="scroll" tabindex="0"><table class="metrics"><thead><tr><th>Metric</th>'
        f"{heads}{before}<th class='drawn'>from {-reach:g} to {reach:+g}</th>{after}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _tone(name: str, system: str) -> str:
    return "base" if name == BASE else "tuned" if name == system else ""


def _metric_row(
    report: Report, metric: str, system: str, reach: float, adjusted: bool, detectable: bool
) -> str:
    cells = f"<td>{term(metric_name(metric), metric_help(metric))}</td>"
    for name in report.systems:
        value = report.scores[name].get(metric)
        shown = "–" if value is None else f"{value:.3f}"
        shown = f"<b>{shown}</b>" if name == system else shown
        cells += f"<td class='n {_tone(name, system)}'>{shown}</td>"
    gain = report.differences[system].get(metric)
    if gain is None:
        return f"<tr>{cells}<td class='n'>–</td>{'<td></td>' * (3 + adjusted + detectable)}</tr>"
    ends = [_p(gain["p_value"])]
    if adjusted:
        ends.append(_p(gain.get("p_adjusted")))
    if detectable:
        least = gain.get("detectable")
        ends.append(f"{least:.3f}" if least else "–")
    written = "".join(f"<td class='n'>{text}</td>" for text in ends)
    return (
        f"<tr>{cells}<td class='n'>{signed(gain['mean'], 3)}</td>"
        f"<td class='n'>{interval(gain)}</td>"
        f"<td>{span_html(gain, reach)}</td>{written}</tr>"
    )


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


def reach_of(gains: Sequence[Mapping[str, Any]]) -> float:
    """The least round number that no interval goes beyond."""
    most = max((abs(gain[end]) for gain in gains for end in ("low", "high")), default=1.0)
    return next((step for step in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75) if most <= step), 1.0)


def signed(value: float, places: int = 2) -> str:
    """A difference with its sign; zero has a plus."""
    return f"{round(value, places) + 0.0:+.{places}f}"


def interval(gain: Mapping[str, float]) -> str:
    """An interval in brackets; an end near zero shows on which side of it it is."""
    ends = []
    for value in (gain["low"], gain["high"]):
        places = 3 if value and round(value, 2) == 0 else 2
        ends.append(f"{round(value, places) + 0.0:.{places}f}")
    return f"[{', '.join(ends)}]"


def span_html(gain: Mapping[str, float], reach: float) -> str:
    """An interval drawn between -reach and +reach, with its mean and zero.

    It has a colour only where the p-value agrees: few questions, or equal gains, make an interval
    that is too narrow.
    """

    def place(value: float) -> float:
        return min(100.0, max(0.0, 50 + 50 * value / reach))

    left, right, middle = (place(gain[key]) for key in ("low", "high", "mean"))
    kind = "" if gain["low"] > 0 else " down" if gain["high"] < 0 else " none"
    if gain["p_value"] >= SURE:
        kind = " none"
    return (
        f'<div class="span{kind}"><i class="zero"></i><i class="range" style="left:{left:.1f}%;'
        f'width:{max(0.5, right - left):.1f}%"></i>'
        f'<i class="mid" style="left:{middle:.1f}%"></i></div>'
    )


def beside_html(report: Report) -> str:
    """What is neither good nor bad by itself, or better when it is less: a column a system."""
    kept: dict[str, Mapping[str, Any]] = {"length_ratio": report.length_ratios}
    for values in (report.shares, report.losses, report.corpus, report.effect):
        for system, numbers in values.items():
            for name, value in numbers.items():
                if name in BESIDE:
                    kept[name] = {**kept.get(name, {}), system: value}
    rows = "".join(
        f"<tr><td>{term(*BESIDE[name])}</td>"
        + "".join(
            f"<td class='n {_tone(system, TUNED)}'>{_number(name, kept[name].get(system))}</td>"
            for system in report.systems
        )
        + "</tr>"
        for name in BESIDE
        if kept.get(name)
    )
    if not rows:
        return ""
    heads = "".join(
        f'<th class="n {_tone(name, TUNED)}">{escape(system_name(name))}</th>'
        for name in report.systems
    )
    idle = [name for name, effect in report.effect.items() if effect.get("acts") is False]
    warning = "".join(
        note(f"{system_name(name)} changes nothing: its answers are the base's.", "warn")
        for name in idle
    )
    return (
        f'{warning}<div class="card"><h3>How the answers are made up</h3><div class="scroll" '
        f'tabindex="0"><table class="metrics beside"><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _number(name: str, value: Any) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if name in ("cut", "empty", "repeating", "prompt_cut", "changed_first_tokens"):
        return f"{value:.1%}".replace("%", " %")
    return f"{value:.2f}" if name in ("length_ratio", "perplexity") else f"{value:.3f}"


def slices_html(parts: Sequence[Slice], metric: str, by: str) -> str:
    """The scores of parts of the questions, with intervals.

    Args:
        parts: At least one, or it is said that there are none.
        metric: By which they were scored.
        by: By what they were cut.
    """
    name = escape(metric_name(metric))
    if not parts:
        return f'<div class="empty"><b>No such questions</b>None has a score in {name}.</div>'
    gains = [vars(part.gain) for part in parts]
    reach = reach_of(gains)
    rows = "".join(
        f"<tr><td class='wraps'>{escape(part.name)}</td><td class='n'>{part.count:,}</td>"
        f"<td class='bars'>{_bar('base', part.base)}{_bar('tuned', part.score)}</td>"
        f"<td class='n'>{signed(part.gain.mean)} {interval(gain)}</td>"
        f"<td>{span_html(gain, reach)}</td></tr>"
        for part, gain in zip(parts, gains, strict=True)
    )
    return (
        f'<div class="card"><h3>{name} by {escape(by)}</h3><div class="scroll" tabindex="0">'
        f'<table class="metrics parts"><thead><tr><th>{escape(by.capitalize())}</th>'
        f"<th class='n'>{term('n', 'How many questions are in this part.')}</th>"
        "<th class='bars'><span class='base'>Base</span>, <span class='tuned'>tuned</span></th>"
        f"<th class='n'>{term('Gain', STATISTICS['95 % interval'])}</th>"
        f"<th class='drawn'>from {-reach:g} to {reach:+g}</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _bar(side: str, value: float) -> str:
    return (
        f'<div class="score-bar {side}"><i style="width:{100 * min(1, max(0, value)):.1f}%"></i>'
        f"<span>{value:.2f}</span></div>"
    )
