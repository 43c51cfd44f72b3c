"""How answers look: panes side by side, unnamed ones, and a chat.

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

__all__ = [
    "COPY_ANSWER",
    "NO_WORDS",
    "VOTE_KEYS",
    "WAITING",
    "Pane",
    "asked_html",
    "chat_html",
    "kinds",
    "panes_html",
    "reference_html",
    "title_of",
    "unnamed_html",
]

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


VOTE_KEYS = """
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input, textarea, select, [contenteditable], [role=tab]")) return;
  const place = ["a", "b", "t", "x"].indexOf(event.key.toLowerCase());
  const button = document.getElementById("vote-" + place);
  if (button && button.offsetParent && !button.disabled) button.click();
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
    """The columns side by side; once done, with what differs from the base's marked.

    Args:
        panes: One a column.
        done: Whether the answers are complete.
        waiting: Whether answers that are not there yet are on their way.
        prefix: Of the columns' ids, so that two such rows can stand on one page.
    """
    systems = [pane.system for pane in panes]
    of_kind = kinds(systems)
    texts = [pane.answer.text if pane.answer else "" for pane in panes]
    first = systems.index("base") if "base" in systems else 0
    bodies = _marked_bodies(texts, first) if done else [escape(text) for text in texts]
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
    ended = " data-done" if done else ""
    return f'<div class="panes n{len(columns)}"{ended}>{"".join(columns)}</div>'


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


def _marked_bodies(texts: Sequence[str], first: int) -> list[str]:
    """Each text against the one at `first`; that one against the other if they are only two."""
    if len(texts) < 2:
        return [escape(text) for text in texts]
    pairs = [marked(texts[first], text) for text in texts]
    bodies = [right for _, right in pairs]
    bodies[first] = pairs[1 - first][0] if len(texts) == 2 else escape(texts[first])
    return bodies


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


def chat_html(turns: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """A chat of all columns: each question once, under it what every column said to it.

    Args:
        turns: For each column its (question, answer) pairs; all columns are asked the same.
    """
    systems = list(turns)
    if not any(turns.values()):
        return (
            '<div class="empty"><b>Chat with all columns at once</b>Say something below. Each '
            "column goes on from its own answers.</div>"
        )
    of_kind = kinds(systems)
    rows = []
    for i, (question, _) in enumerate(turns[systems[0]]):
        replies = "".join(
            f'<div class="reply is-{of_kind[system]}"><b>{escape(title_of(system))}</b>'
            f"<div>{escape(turns[system][i][1]) or NO_WORDS}</div></div>"
            for system in systems
        )
        rows.append(
            f'<div class="turn"><div class="said">{escape(question)}</div>'
            f'<div class="panes n{len(systems)}">{replies}</div></div>'
        )
    return f'<div class="talk" role="log" aria-label="Chat" tabindex="0">{"".join(rows)}</div>'


def reference_html(references: Sequence[str]) -> str:
    """The right answers of a held-out question; nothing if there are none."""
    if not references:
        return ""
    text = escape("\n".join(references))
    return (
        '<div class="card"><h3>Reference answer, held out of training</h3>'
        f'<div class="verbatim">{text}</div></div>'
    )


def asked_html(question: str, context: str) -> str:
    """The question that is being answered, with its passage."""
    passage = f"<p>{escape(context)}</p>" if context else ""
    return f'<div class="asked"><b>{escape(question)}</b>{passage}</div>'
