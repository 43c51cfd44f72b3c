"""What many answers come to: a batch as a table, adapters' effects, the tally of votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from qa_lora.ui.compare.panes import NO_WORDS, WAITING, kinds, title_of

if TYPE_CHECKING:
    from qa_lora.answering.effect import Effect
    from qa_lora.votes import PairTally

__all__ = ["effect_html", "probe_table", "progress_html", "tally_html"]


def effect_html(effects: Mapping[str, Effect]) -> str:
    """What each adapter changes; a warning where it changes nothing."""
    if not effects:
        return (
            '<p class="effect">What each adapter does to its base is measured after the first '
            "answer.</p>"
        )
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
            f"{100 * effect.changed_first_tokens:.0f} % of first tokens changed</span>, "
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
            f"{100 * rate.share:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"
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
