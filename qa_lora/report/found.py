"""What an evaluation found, and the one sentence that sums it up."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qa_lora.scoring import METRICS

if TYPE_CHECKING:
    import pyarrow as pa

    from qa_lora.events import Scored
    from qa_lora.report.slices import Slice

__all__ = [
    "BASE",
    "FACT_ACCURACY",
    "LABELS",
    "SHARES",
    "SHARE_LABELS",
    "TUNED",
    "ExampleResult",
    "Report",
    "beside",
    "headline",
    "questions_fingerprint",
]

BASE, TUNED = "base", "tuned"
"""The two systems of every report: the untouched base model, and the run's own adapter on it."""

FACT_ACCURACY = "fact_accuracy"
"""Name, beside the metrics of scoring, of the share of answers that contain the right facts."""

SHARE_LABELS = {
    "cut": "answers cut at the limit",
    "empty": "empty answers",
    "repeating": "answers caught in a loop",
    "prompt_cut": "prompts that were cut",
}
SHARES = tuple(SHARE_LABELS)
"""Of how many answers it is told: cut at the limit, empty, caught in a loop; and of how many
prompts something had to be cut."""

LABELS = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "rougeSU4": "ROUGE-SU4",
    "exact_match": "exact match",
    "f1": "token F1",
    "bleu": "BLEU",
    "chrf": "chrF",
    FACT_ACCURACY: "right fact",
}
"""What the metrics are called, for people."""


@dataclass(frozen=True)
class ExampleResult:
    """One question, its right answers, and how each system did."""

    id: str
    question: str
    context: str
    references: tuple[str, ...]
    answers: dict[str, str]
    """By system: base, tuned, and the names of further adapters."""
    scores: dict[str, dict[str, float]]
    """By system, a value a metric; fact_accuracy among them if the row names facts."""
    traits: dict[str, dict[str, float]] = field(default_factory=dict)
    """By system, what is neither good nor bad by itself: 0 or 1 for each of :data:`SHARES`, and
    length_ratio, words of the answer over words of the reference nearest to it in length."""
    source: str = ""
    """The source that the question comes from, by its short name."""

    @property
    def base(self) -> str:
        """The base model's answer."""
        return self.answers[BASE]

    @property
    def tuned(self) -> str:
        """The fine-tuned model's answer."""
        return self.answers[TUNED]

    @property
    def base_scores(self) -> dict[str, float]:
        """The base model's scores."""
        return self.scores[BASE]

    @property
    def tuned_scores(self) -> dict[str, float]:
        """The fine-tuned model's scores."""
        return self.scores[TUNED]

    def gain(self, metric: str, system: str = TUNED) -> float | None:
        """A system's score minus the base's; None where the row has no such score."""
        base, other = (self.scores[name].get(metric) for name in (BASE, system))
        return None if base is None or other is None else other - base

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, base and tuned by their own names besides."""
        values = dataclasses.asdict(self)
        return values | {
            name: getattr(self, name) for name in ("base", "tuned", "base_scores", "tuned_scores")
        }


@dataclass(frozen=True)
class Report:
    """The base model and one or more adapters on it, on the same held-out questions."""

    rows: int
    """Questions scored; several right answers to one question count once."""
    split: str
    """train, validation, test, or file for all questions of a file."""
    scores: dict[str, dict[str, float]]
    """By system, the mean of each metric over the questions, between 0 and 1."""
    differences: dict[str, dict[str, dict[str, Any]]]
    """By system but the base, for each metric: mean, low, high, p_value, p_adjusted, detectable.

    System minus base; p_adjusted is corrected for all metrics and systems of the report."""
    seconds: float
    fingerprint: str
    """Of the split the questions come from."""
    test_fingerprint: str = ""
    """Of the questions scored and their references: two reports can be compared number by number
    exactly if it is the same."""
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    """By system, the share of answers with each of :data:`SHARES`."""
    length_ratios: dict[str, float] = field(default_factory=dict)
    """By system, words of all answers over words of the references nearest to them in length."""
    corpus: dict[str, dict[str, float]] = field(default_factory=dict)
    """By system, bleu and chrf of all answers taken as one text, as papers give them, but from 0
    to 1; those in `scores` are means over the questions, which have an interval."""
    losses: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """By system, loss (a mean over real label tokens of every reference, in nats), perplexity,
    tokens and rows; empty if it was not computed. Loss and perplexity are None if the loss is no
    finite number, as is mean_kl below: such an adapter is broken."""
    effect: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By system but the base, how much its adapter changes what the base says: rows,
    changed_first_tokens, mean_kl, acts, as :class:`qa_lora.answering.effect.Effect` has them; empty
    if it was not measured."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How the answers were made: model, data, limit, seed and every generation setting; and of
    which adapters, by the SHA-256 of their weights."""
    asked: int = 0
    """Questions that were to be scored; more than `rows` if the evaluation was cut short."""
    complete: bool = True
    """Whether all of them were."""
    number: int | None = None
    """The evaluation's number in its run; None if it was not saved."""
    examples: tuple[ExampleResult, ...] = field(default=(), repr=False)

    @property
    def systems(self) -> tuple[str, ...]:
        """Who answered: base, tuned, and the names of further adapters."""
        return tuple(self.scores)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of this report, of all of which more is better; known ones first."""
        known = [name for name in (*METRICS, FACT_ACCURACY) if name in self.base]
        return (*known, *(name for name in self.base if name not in known))

    def is_of(self, system: str, digest: str) -> bool | None:
        """Whether an adapter with these weights gave the answers of a system.

        Args:
            system: Who answered.
            digest: The SHA-256 of the weights' file.

        Returns:
            None if the report does not say.
        """
        digests = self.settings.get("adapter_digests")
        known = digests.get(system) if isinstance(digests, dict) else None
        return known == digest if known else None

    @property
    def base(self) -> dict[str, float]:
        """Mean of each metric of the base model."""
        return self.scores[BASE]

    @property
    def tuned(self) -> dict[str, float]:
        """Mean of each metric of the fine-tuned model."""
        return self.scores[TUNED]

    @property
    def difference(self) -> dict[str, dict[str, Any]]:
        """For each metric, tuned minus base."""
        return self.differences[TUNED]

    @property
    def cut_base(self) -> float:
        """Share of the base's answers that ended only because max_new_tokens was reached."""
        return self.shares.get(BASE, {}).get("cut", 0.0)

    @property
    def cut_tuned(self) -> float:
        """The same of the fine-tuned model's answers."""
        return self.shares.get(TUNED, {}).get("cut", 0.0)

    def slices(self, by: str, metric: str, system: str = TUNED) -> list[Slice]:
        """The scores of parts of the questions; see :func:`qa_lora.report.slices.slices`."""
        from qa_lora.report.slices import slices

        return slices(self.examples, by, metric, system)

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain JSON values, without the examples."""
        names = [f.name for f in dataclasses.fields(self) if f.name != "examples"]
        values = {name: getattr(self, name) for name in names}
        views = ("base", "tuned", "difference", "cut_base", "cut_tuned")
        first = ("rows", "asked", "complete", "split")
        return {
            **{name: values.pop(name) for name in first},
            **{name: getattr(self, name) for name in views},
            "systems": list(self.systems),
            **values,
        }

    def to_table(self) -> pa.Table:
        """The examples as a table: the columns of the Parquet file."""
        from qa_lora.report.files import to_table

        return to_table(self)


def questions_fingerprint(asked: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Of questions, by their keys, and their references, whatever their order.

    Args:
        asked: For each question its :func:`qa_lora.data.question_key` and its references.
    """
    rows = sorted([key, sorted(references)] for key, references in asked)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def headline(result: Report | Scored | Mapping[str, Any]) -> str:
    """One sentence: ROUGE-L 0.31 -> 0.84, +0.53 [0.50, 0.56], right fact 88 %, 210 questions.

    Args:
        result: A report, a scored event, or the JSON of either.
    """
    if not isinstance(result, Mapping):
        names = ("rows", "base", "tuned", "difference", "asked")
        result = {name: getattr(result, name, None) for name in names}
    rows, base, tuned, difference = (
        result[name] for name in ("rows", "base", "tuned", "difference")
    )
    gain = difference["rougeL"]
    parts = [
        f"ROUGE-L {base['rougeL']:.2f} -> {tuned['rougeL']:.2f}",
        f"{_plain(gain['mean']):+.2f} [{_plain(gain['low']):.2f}, {_plain(gain['high']):.2f}]",
    ]
    if FACT_ACCURACY in tuned:
        parts.append(f"right fact {tuned[FACT_ACCURACY]:.0%}".replace("%", " %"))
    asked = result.get("asked") or rows
    some = f"{rows} of {asked}" if asked > rows else f"{rows}"
    parts.append(f"{some} question" + ("" if asked == 1 else "s"))
    return ", ".join(parts)


def beside(report: Report) -> list[tuple[str, tuple[str, ...]]]:
    """What is neither good nor bad by itself, in words: a name, and a text for each system.

    The text is empty for a system of which it was not asked, and a dash where the answer was no
    finite number.
    """
    rows: list[tuple[str, tuple[str, ...]]] = []

    def add(name: str, values: Mapping[str, float | None], form: str) -> None:
        if values:
            shown = {
                system: "–" if value is None else form.format(value).replace("%", " %")
                for system, value in values.items()
            }
            rows.append((name, tuple(shown.get(system, "") for system in report.systems)))

    def of(kept: Mapping[str, Mapping[str, float | None]], name: str) -> dict[str, float | None]:
        return {system: values[name] for system, values in kept.items() if name in values}

    add("words of answers over words of references", dict(report.length_ratios), "{:.2f}")
    for name, words in SHARE_LABELS.items():
        add(words, of(report.shares, name), "{:.1%}")
    add("loss of the references, nats a token", of(report.losses, "loss"), "{:.3f}")
    add("perplexity of the references", of(report.losses, "perplexity"), "{:.3g}")
    add("first tokens other than the base's", of(report.effect, "changed_first_tokens"), "{:.1%}")
    add("divergence from the base, nats a token", of(report.effect, "mean_kl"), "{:.3f}")
    for name in ("bleu", "chrf"):
        add(f"{LABELS[name]} of all answers as one text", of(report.corpus, name), "{:.3f}")
    return rows


def _plain(value: float) -> float:
    """Rounded, and never -0.00."""
    return round(value, 2) + 0.0
