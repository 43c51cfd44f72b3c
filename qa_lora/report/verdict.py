"""What an evaluation says, in plain words: did tuning pay, how much, and how sure is that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from qa_lora.report.found import BASE, FACT_ACCURACY, LABELS, TUNED, Report
from qa_lora.scoring.statistics import paired_bootstrap

__all__ = ["SURE", "Verdict", "verdict"]

SURE = 0.05
"""Below this p-value, corrected for all that was looked at, chance is not believed."""

FEWEST = 6
"""With fewer questions no p-value can be below 5 %, and the interval is of their luck alone."""


@dataclass(frozen=True)
class Verdict:
    """An answer of a few words, and the sentences that give its reasons."""

    kind: Literal["better", "worse", "unclear"]
    title: str
    text: str
    system: str
    """The adapter that it is about: the best of those that are surely better than the base, or of
    all if none is."""


def verdict(
    report: Report, *, metric: str = "rougeL", names: Mapping[str, str] | None = None
) -> Verdict:
    """Whether the best adapter of a report is better than its base.

    Args:
        report: With its examples: who of the first two adapters is better is told from their
            answers to the same questions, and how many of these name a fact.
        metric: By which they are judged; more of it must be better.
        names: What systems are called, if not by their own names.
    """
    called = {TUNED: "the tuned model", **(names or {})}
    adapters = sorted(
        (name for name, gains in report.differences.items() if metric in gains),
        key=lambda name: -report.scores[name][metric],
    )
    found = {name: _against_base(report, metric, name) for name in adapters}
    # The highest mean may be luck: one that gains less, but more evenly, goes before it.
    best = next((name for name in adapters if found[name][0] == "better"), adapters[0])
    kind, text = found[best]
    lost = metric != FACT_ACCURACY and _lost_facts(report, best)
    if len(adapters) == 1:
        title = {
            "better": "Tuning paid, but facts were lost." if lost else "Tuning paid.",
            "worse": "Tuning made it worse.",
            "unclear": "No clear gain, and facts were lost." if lost else "No clear difference.",
        }[kind]
    else:
        who = called.get(best, best)
        many = f"{len(adapters)} adapters"
        paid = f"Tuning paid{', but facts were lost' if lost else ''}; "
        if kind != "better":
            clearly = "" if all(each == "worse" for each, _ in found.values()) else "clearly "
            title = f"None of {many} is {clearly}better than the base."
        elif best == adapters[0]:
            title = f"{paid}the best of {many} is {who}."
        else:
            title = f"{paid}of {many} the best that is surely better than the base is {who}."
        text += _against_other(report, metric, best, adapters[best == adapters[0]], called)
    return Verdict(kind, title, text + _facts(report, metric, best), best)


def _against_base(
    report: Report, metric: str, system: str
) -> tuple[Literal["better", "worse", "unclear"], str]:
    gain = report.differences[system][metric]
    low, high = gain["low"], gain["high"]
    p_value = gain.get("p_adjusted") or gain["p_value"]
    name = LABELS.get(metric, metric)
    before, after = report.scores[BASE][metric], report.scores[system][metric]
    count = sum(row.gain(metric, system) is not None for row in report.examples) or report.rows
    if low == high == 0:
        text = f"On every question {name} is the same with and without tuning"
        return "unclear", f"{text}, {before:.2f} on average." if count > 1 else f"{text}."
    if count < FEWEST:
        return "unclear", (
            f"{name} is {before:.2f} without and {after:.2f} with tuning on {count} "
            f"question{'' if count == 1 else 's'}, too few to say anything of others."
        )
    span = f"between {_signed(low)} and {_signed(high)} with 95 % confidence"
    if p_value < SURE and (low > 0 or high < 0):
        up = low > 0
        text = (
            f"{name} {'rose' if up else 'fell'} from {before:.2f} to {after:.2f}, by "
            f"{abs(gain['mean']):.2f}"
        )
        # Equal gains give an interval of no width, which says nothing of how they vary.
        text += f"; the true change lies {span}." if low < high else " on every question."
        return ("better" if up else "worse"), text
    text = (
        f"{name} is {before:.2f} without and {after:.2f} with tuning, which may be chance: the "
        f"true change lies {span}"
    )
    if low > 0 or high < 0:
        text += f", but of so many scores chance moves one this far too easily (p {_p(p_value)})"
    text += "."
    least = gain.get("detectable")
    if least and abs(gain["mean"]) < least:
        text += (
            f" With so many questions only a difference of {least:.2f} or more would show; score "
            "more of them to see a smaller one."
        )
    return "unclear", text


def _against_other(
    report: Report, metric: str, best: str, other: str, called: Mapping[str, str]
) -> str:
    """The best one held against the one that has the highest mean but for its own."""
    ahead = report.scores[other][metric] > report.scores[best][metric]
    less, more = (best, other) if ahead else (other, best)
    rows = [row.scores for row in report.examples if row.gain(metric, best) is not None]
    if not rows:
        return ""
    gain = paired_bootstrap(
        [row[less][metric] for row in rows], [row[more][metric] for row in rows]
    )
    span = f"{_signed(gain.mean)} [{_signed(gain.low)}, {_signed(gain.high)}], p {_p(gain.p_value)}"
    who = called.get(other, other)
    if ahead:
        return (
            f" The mean of {who} is higher, by {span}, but it gains so unevenly that it is not "
            "surely better than the base."
        )
    if gain.low > 0 and gain.p_value < SURE:
        return f" It beats the second, {who}, by {span}."
    return f" It is not clearly better than the second, {who}: {span}."


def _facts(report: Report, metric: str, system: str) -> str:
    """Whether the answers became nicer at the cost of being right."""
    before = report.scores[BASE].get(FACT_ACCURACY)
    after = report.scores[system].get(FACT_ACCURACY)
    if metric == FACT_ACCURACY or before is None or after is None:
        return ""
    lost = _lost_facts(report, system)
    named = sum(FACT_ACCURACY in row.scores[BASE] for row in report.examples)
    to = ""
    if named < len(report.examples):
        to = f" to the {named:,} question{'s that name' if named > 1 else ' that names'} one"
    facts = f"right fact is in {after:.0%} of the answers{to}, {before:.0%} of the base's."
    return f" {'But the' if lost else 'The'} {facts.replace('%', ' %')}"


def _lost_facts(report: Report, system: str) -> bool:
    gain = report.differences[system].get(FACT_ACCURACY)
    return gain is not None and gain["high"] < 0 and gain["p_value"] < SURE


def _signed(value: float) -> str:
    """With two places, or three where two would hide on which side of zero it is."""
    places = 3 if value and round(value, 2) == 0 else 2
    return f"{round(value, places) + 0.0:+.{places}f}"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
