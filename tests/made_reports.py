"""Reports as an evaluation makes them, from scores that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qa_lora.evaluation.summary import compare, length_ratios, mean_scores, shares
from qa_lora.report import SHARES, ExampleResult, Report, questions_fingerprint


def make_report(
    scores: Mapping[str, Sequence[float]],
    *,
    facts: Mapping[str, Sequence[float]] | None = None,
    text: str = "question",
    sources: Sequence[str] = (),
    **values: Any,
) -> Report:
    """A report of systems whose metrics are all the same number on a question.

    Args:
        scores: By system, base and tuned first, a score a question.
        facts: Likewise, fact_accuracy; of the first questions, if there are fewer than questions.
        text: The beginning of every question, context, reference and answer.
        sources: Of each question.
        **values: Fields of the report.
    """
    from qa_lora.scoring import METRICS

    count = len(scores["base"])
    traits = dict.fromkeys(SHARES, 0.0) | {"length_ratio": 1.5}
    rows = tuple(
        ExampleResult(
            id=f"{text}-{i}",
            question=f"{text} {i}",
            context=text,
            references=(f"{text} right {'word ' * i}".strip(),),
            answers={name: f"{text} by {name}" for name in scores},
            scores={
                name: dict.fromkeys(METRICS, each[i])
                | ({"fact_accuracy": facts[name][i]} if facts and i < len(facts[name]) else {})
                for name, each in scores.items()
            },
            traits={name: dict(traits) for name in scores},
            source=sources[i] if sources else "",
        )
        for i in range(count)
    )
    made: dict[str, Any] = {
        "rows": count,
        "split": "test",
        "scores": mean_scores(rows),
        "differences": compare(rows, 0),
        "seconds": 2.0,
        "fingerprint": "split",
        "test_fingerprint": questions_fingerprint((row.question, row.references) for row in rows),
        "shares": shares(rows),
        "length_ratios": length_ratios(rows),
        "settings": {"data": "atlas", "max_new_tokens": 128},
        "asked": count,
        "examples": rows,
    }
    return Report(**(made | values))
