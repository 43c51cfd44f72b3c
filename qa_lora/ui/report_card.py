"""The data report as HTML: warnings, facts, histograms, and folds with what lies behind them.

Everything that comes from the data is escaped: the page runs what it is given.
"""

from __future__ import annotations

from html import escape

from qa_lora.data.characters import LostCharacter
from qa_lora.data.histogram import TokenLengths
from qa_lora.data.report import DataReport, OverlapPair, alike
from qa_lora.data.seen import SeenExample, SeenText
from qa_lora.ui.words import note

__all__ = ["report_html"]

PAIRS = 10
IDS = 400
"""Ids shown of a text; the rest is told by number."""
TEXT = 2_000
"""Characters shown of a text."""
NEAR_CUT = 150
"""Characters shown on each side of where a text is cut."""


def report_html(report: DataReport) -> str:
    """The card beside the form."""
    warnings = "".join(note(warning, "warn") for warning in report.warnings)
    facts = "".join(
        f'<dt title="{escape(fact.why)}">{escape(fact.name)}</dt><dd>{_unbroken(fact.text)}</dd>'
        for fact in report.facts()
    )
    charts = "".join(
        _histogram(name, lengths)
        for name, lengths in (("Prompts", report.prompt_tokens), ("Answers", report.answer_tokens))
        if lengths
    )
    folds = (
        _fold("Questions on two sides", _pairs(report.overlap_pairs), len(report.overlap_pairs)),
        _fold("Nearly the same questions", _near(report), len(report.near_pairs)),
        _fold("Characters that do not come through", _characters(report.lost_characters)),
        _fold("Dropped rows", _dropped(report)),
        _fold("What the model sees", _seen(report.seen)) or _preview(report),
    )
    return (
        f'<div class="card report" role="status"><h3>Data check · {escape(report.source)}</h3>'
        f"{warnings}<dl>{facts}</dl>{charts}{''.join(folds)}</div>"
    )


def _fold(title: str, inside: str, count: int | None = None) -> str:
    if not inside:
        return ""
    number = "" if count is None else f" ({count:,})"
    return f"<details><summary>{escape(title)}{number}</summary>{inside}</details>"


def _histogram(name: str, lengths: TokenLengths) -> str:
    """Bars by length, those over the limit in another colour, a line where the limit lies."""
    most = max(lengths.counts, default=0) or 1
    over = lengths.longest > lengths.limit
    within = lengths.bins_within
    bars = []
    for number, count in enumerate(lengths.counts):
        if over and number == within:
            bars.append('<b class="limit"></b>')
        low, high = lengths.edges[number] + 1, lengths.edges[number + 1]
        kind = ' class="over"' if over and number >= within else ""
        # A bar that is not empty can be seen, however many there are of another length.
        height = f"max({100 * count / most:.1f}%, 2px)" if count else "0"
        title = f"{low:,} to {high:,} tokens: {count:,}"
        bars.append(f'<i{kind} style="height:{height}" title="{title}"></i>')
    mark = f"cut at {lengths.limit:,}"
    words = f"{mark}: {lengths.cut:.1%}".replace("%", " %") if over else f"{mark}: none"
    span = f"{name}, 1 to {lengths.longest:,} tokens"
    told = f"{span}, median {lengths.median:,}, {words}"
    return (
        f'<figure class="hist"><div class="bars" role="img" aria-label="{escape(told)}">'
        f"{''.join(bars)}</div><figcaption><span>{span}</span>"
        f'<span class="{"over" if over else ""}">{_unbroken(words)}</span></figcaption></figure>'
    )


def _pairs(pairs: tuple[OverlapPair, ...]) -> str:
    return "".join(
        f'<p class="pair"><small>{pair.alike}</small>'
        f"<span><em>{escape(pair.side)}</em> {_text(pair.question)}</span>"
        f"<span><em>{escape(pair.other_side)}</em> {_text(pair.other_question)}</span></p>"
        for pair in pairs[:PAIRS]
    )


def _near(report: DataReport) -> str:
    return "".join(
        f'<p class="pair"><small>{alike(similarity)}</small>'
        f"<span>{_text(first)}</span><span>{_text(second)}</span></p>"
        for first, second, similarity in report.near_pairs[:PAIRS]
    )


def _characters(lost: tuple[LostCharacter, ...]) -> str:
    rows = "".join(
        f"<tr><td>{_sign(each)}</td>"
        f"<td>{escape(each.name)}<br><small>{escape(each.sentence)}</small></td>"
        f'<td class="n">{each.rows:,}</td></tr>'
        for each in lost
    )
    head = '<thead><tr><th></th><th>Character</th><th class="n">Rows</th></tr></thead>'
    return f'<table class="plain">{head}<tbody>{rows}</tbody></table>' if rows else ""


def _sign(lost: LostCharacter) -> str:
    return f"<code>{escape(lost.shown)}</code>" if lost.shown != lost.name else ""


def _dropped(report: DataReport) -> str:
    return "".join(
        f"<p>{escape(reason.reason)}:</p><ul>{items}</ul>"
        for reason in report.dropped
        if (items := "".join(f"<li>{_text(text)}</li>" for text in reason.examples))
    )


def _seen(seen: tuple[SeenExample, ...]) -> str:
    return "".join(
        f"<article><h4>Prompt</h4><pre>{_text(each.prompt)}</pre>{_ids('Model reads', each.input)}"
        f"<h4>Answer</h4><pre>{_text(each.answer)}</pre>{_ids('Model learns', each.label)}"
        "</article>"
        for each in seen
    )


def _ids(title: str, text: SeenText) -> str:
    count = f"{len(text.ids):,} tokens"
    if text.cut:
        count = f"{len(text.ids):,} of {text.whole_tokens:,} tokens, the rest is cut"
    more = f" and {len(text.ids) - IDS:,} more" if len(text.ids) > IDS else ""
    numbers = " ".join(map(str, text.ids[:IDS]))
    shown = _text(text.before)
    if text.cut:  # the place where it is cut is what matters
        start = "…" if len(text.before) > NEAR_CUT else ""
        end = "…" if len(text.cut) > NEAR_CUT else ""
        shown = (
            f"{start}{escape(text.before[-NEAR_CUT:])}"
            f"<del>{escape(text.cut[:NEAR_CUT])}{end}</del>{_text(text.after)}"
        )
    return (
        f"<h4>{title} <small>{count}</small></h4><pre>{shown}</pre>"
        f'<pre class="ids" tabindex="0">{numbers}{more}</pre>'
    )


def _preview(report: DataReport) -> str:
    shown = "".join(
        f'<p class="clamp"><b>{escape(row["question"])}</b><br>{escape(row["answer"])}</p>'
        for row in report.preview[:2]
    )
    return f'<div class="preview">{shown}</div>'


def _unbroken(text: str) -> str:
    """Escaped, a number and its percent sign kept on one line."""
    return escape(text).replace(" %", "\N{NO-BREAK SPACE}%")


def _text(text: str) -> str:
    if len(text) <= TEXT:
        return escape(text)
    return f"{escape(text[:TEXT])}… <small>and {len(text) - TEXT:,} more characters</small>"
