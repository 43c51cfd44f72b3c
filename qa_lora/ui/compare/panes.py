"""How answers look: panes side by side, a table of many, and what votes add up to.

All text is escaped here; handlers pass it on as people and models wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from qa_lora.ui.words import marked

if TYPE_CHECKING:
    from qa_lora.answering import Answer
    from qa_lora.effect import Effect
    from qa_lora.votes import PairTally

__all__ = [
    "COPY_ANSWER",
    "Pane",
    "effect_html",
    "kinds",
    "panes_html",
    "probe_table",
    "progress_html",
    "reference_html",
    "tally_html",
    "title_of",
    "unnamed_html",
]

MARK_LIMIT = 20_000
"""Longer answers are shown without marked differences, whose search would hold up the page."""
WAITING = '<span class="subdued">…</span>'
NO_WORDS = '<span class="subdued">(no words)</span>'
PLACEHOLDER = '<span class="subdued">The answer will appear here.</span>'

COPY_ANSWER = """
element.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const text = button.closest(".answer").querySelector(".text").textContent;
  try { await navigator.clipboard.writeText(text); } catch {
    const area = document.createElement("textarea"); area.value = text;
    document.body.append(area); area.select(); document.execCommand("copy"); area.remove(); }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});
"""


@dataclass(frozen=True)
class Pane:
    """One column: whose answer it is, and the answer, if there is one yet."""

    system: str
    answer: Answer | None = None
    scores: Mapping[str, float] | None = None
    """Against the reference, where there is one."""
    title: str = ""
    """In place of the system's own."""


def title_of(system: str) -> str:
    """What a system is called on the page."""
    return {"base": "Base model", "tuned": "Fine-tuned"}.get(system, system)


def kinds(systems: Sequence[str]) -> dict[str, str]:
    """For each system the class that gives it its colour: base, tuned, other-1, other-2 ..."""
    others = [system for system in systems if system not in ("base", "tuned")]
    numbered = {system: f"other-{i + 1}" for i, system in enumerate(others)}
    return {system: numbered.get(system, system) for system in systems}


def panes_html(
    panes: Sequence[Pane], *, done: bool = False, waiting: bool = False, prefix: str = ""
) -> str:
    """The columns side by side; once done, with what differs from the first column marked.

    Args:
        panes: One a column.
        done: Whether the answers are complete.
        waiting: Whether answers that are not there yet are on their way.
        prefix: Of the columns' ids, so that two such rows can stand on one page.
    """
    of_kind = kinds([pane.system for pane in panes])
    texts = [pane.answer.text if pane.answer else "" for pane in panes]
    bodies = _marked_bodies(texts) if done else [escape(text) for text in texts]
    columns = []
    for pane, body in zip(panes, bodies, strict=True):
        if not body:
            body = NO_WORDS if done else WAITING if waiting else PLACEHOLDER
        title = escape(pane.title or title_of(pane.system))
        kind = of_kind[pane.system]
        copy = (
            f'<button type="button" class="copy" aria-label="Copy the answer: {title}">Copy'
            "</button>"
            if done and pane.answer and pane.answer.text
            else ""
        )
        columns.append(
            f'<div class="answer is-{kind}" id="{prefix}{kind}-answer" role="region" '
            f'aria-label="{title}">'
            f'<header><h3 title="{title}">{title}</h3>{copy}</header><div class="text">{body}</div>'
            f"<footer>{_footer(pane) or '&nbsp;'}</footer></div>"
        )
    return f'<div class="panes n{len(columns)}">{"".join(columns)}</div>'


def unnamed_html(answers: Sequence[str] | None, waiting: bool = False) -> str:
    """Two answers of a blind test before the vote: nothing tells whose they are.

    Args:
        answers: What was said, left and right; None if nothing yet.
        waiting: Whether answers are on their way.
    """
    columns = []
    for i, letter in enumerate("AB"):
        if answers is None:
            body = WAITING if waiting else PLACEHOLDER
        else:
            body = escape(answers[i]) or NO_WORDS
        columns.append(
            f'<div class="answer" id="blind-{letter.lower()}" role="region" '
            f'aria-label="Answer {letter}"><header><h3>Answer {letter}</h3></header>'
            f'<div class="text">{body}</div><footer>&nbsp;</footer></div>'
        )
    return f'<div class="panes n2">{"".join(columns)}</div>'


def _marked_bodies(texts: Sequence[str]) -> list[str]:
    """Each text against the first one; the first against the second if they are only two."""
    if len(texts) < 2 or max(map(len, texts)) > MARK_LIMIT:
        return [escape(text) for text in texts]
    pairs = [marked(texts[0], text) for text in texts[1:]]
    first = pairs[0][0] if len(texts) == 2 else escape(texts[0])
    return [first, *(right for _, right in pairs)]


def _footer(pane: Pane) -> str:
    answer = pane.answer
    if answer is None:
        return ""
    parts = [f"{answer.seconds:.1f} s", f"{answer.tokens:,} token{'s' * (answer.tokens != 1)}"]
    if answer.seconds > 0 and answer.tokens:
        parts.append(f"{answer.tokens / answer.seconds:,.0f} tokens/s")
    if answer.cut:
        parts.append("cut at the longest length allowed")
    if answer.notice:
        parts.append(escape(answer.notice))
    if pane.scores:
        rouge, f1 = pane.scores.get("rougeL"), pane.scores.get("f1")
        if rouge is not None:
            tip = "Longest common subsequence with the reference, from 0 to 1."
            parts.append(f'<b title="{tip}">ROUGE-L {rouge:.2f}</b>')
        if f1 is not None:
            tip = "Words shared with the reference: harmonic mean of precision and recall, 0 to 1."
            parts.append(f'<b title="{tip}">F1 {f1:.2f}</b>')
    return " · ".join(parts)


def reference_html(references: Sequence[str]) -> str:
    """The right answers of a held-out question; nothing if there are none."""
    if not references:
        return ""
    text = escape("\n".join(references))
    return (
        '<div class="card"><h3>Reference answer, held out of training</h3>'
        f'<div class="verbatim">{text}</div></div>'
    )


def effect_html(effects: Mapping[str, Effect]) -> str:
    """What each adapter changes; a warning where it changes nothing."""
    of_kind = kinds(["base", *effects])
    lines = []
    for system, effect in effects.items():
        name = f'<b class="in-{of_kind[system]}">{escape(title_of(system))}</b>'
        asked = f"{effect.rows:,} held-out question{'s' * (effect.rows != 1)}"
        if not effect.acts:
            lines.append(
                f'<div class="note warn" role="status">{name} answers exactly as the base model on '
                f"{asked}: the adapter changes nothing. Was it trained long enough, and was it "
                "saved whole?</div>"
            )
            continue
        lines.append(
            f'<p class="effect">{name} on {asked}: '
            '<span title="How many answers begin with another token than the base model\'s.">'
            f"{effect.changed_first_tokens:.0%} of first tokens changed</span>, "
            "<span title=\"Mean Kullback-Leibler divergence of the tuned from the base model's "
            "next-token probabilities over the tuned answers, in nats; 0 means that nothing "
            f'changed.">mean KL {effect.mean_kl:.2f} nats</span></p>'
        )
    return "".join(lines)


def progress_html(done: int, total: int, message: str) -> str:
    """How far a batch is."""
    share = 100 * done / max(1, total)
    return (
        f'<div class="note" role="status">{escape(message)}'
        f'<div class="bar"><i style="width:{share:.1f}%"></i></div></div>'
    )


def probe_table(
    questions: Sequence[str], systems: Sequence[str], answers: Mapping[int, Mapping[str, str]]
) -> str:
    """Many questions, a row each, with an answer a column as far as there are any.

    Args:
        questions: The questions, in order.
        systems: The columns.
        answers: For some questions' indices, each system's answer.
    """
    if not questions:
        return ""
    of_kind = kinds(systems)
    heads = "".join(
        f'<th scope="col" class="in-{of_kind[s]}">{escape(title_of(s))}</th>' for s in systems
    )
    rows = []
    for i, question in enumerate(questions):
        cells = []
        for system in systems:
            text = answers[i].get(system, "") if i in answers else None
            body = WAITING if text is None else escape(text) or NO_WORDS
            label = escape(title_of(system))
            cells.append(f'<td data-label="{label}" class="is-{of_kind[system]}">{body}</td>')
        rows.append(f'<tr><th scope="row">{escape(question)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll"><table class="qa batch n{len(systems)}"><thead><tr>'
        f'<th scope="col">Question</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


def tally_html(pairs: Sequence[PairTally]) -> str:
    """What the votes add up to, a row for each pair of systems."""
    if not pairs:
        return (
            '<div class="empty"><b>No votes on this run yet</b>Each vote is kept with its question '
            "and answers; here stands what they add up to.</div>"
        )
    tips = {
        "Wins": "Votes for the first of the two.",
        "Losses": "Votes for the second.",
        "Ties": "Votes for neither because both are as good.",
        "Both bad": "Votes for neither because both are bad.",
        "Win rate": "Wins among the votes for one of the two, with Wilson's 95 % interval.",
        "p": "Two-sided sign test: how often a fair coin would be this uneven. Ties are left out.",
        "Votes": "All votes on the two, undecided ones among them.",
    }
    heads = "".join(f'<th scope="col" class="n" title="{t}">{n}</th>' for n, t in tips.items())
    rows = []
    for pair in pairs:
        rate = pair.rate
        share = (
            f"{rate.share:.0%} [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"
            if rate.decided
            else "none decided"
        )
        p_value = f"{rate.p_value:.3f}" if rate.p_value >= 0.001 else "&lt; 0.001"
        numbers = [pair.wins, pair.losses, pair.ties, pair.both_bad]
        cells = [*map(str, numbers), share, p_value if rate.decided else "–", str(pair.votes)]
        name = f"{escape(title_of(pair.system))} against {escape(title_of(pair.against))}"
        rows.append(
            f'<tr><th scope="row">{name}</th>' + "".join(f'<td class="n">{c}</td>' for c in cells)
        )
    return (
        '<div class="scroll"><table class="metrics votes"><thead><tr><th scope="col">Pair</th>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
