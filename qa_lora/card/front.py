"""The front matter of a card, which the Hub reads: base, data, metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qa_lora.base_names import base_name, is_bundled, is_local
from qa_lora.card.facts import CardFacts
from qa_lora.report import FACT_ACCURACY, LABELS, Report

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

__all__ = ["front_matter", "language_of"]

TASK = "text-generation"
TAGS = ["lora", "peft", "qa-lora", "question-answering", "t5"]
METRIC_TYPES = {
    "rouge1": "rouge",
    "rouge2": "rouge",
    "rougeL": "rouge",
    "rougeLsum": "rouge",
    "rougeSU4": "rouge",
    "exact_match": "exact_match",
    "f1": "f1",
    "bleu": "bleu",
    "chrf": "chrf",
    FACT_ACCURACY: "accuracy",
}
"""What the Hub calls a metric."""
SAME_LANGUAGE = 0.8
"""From this share of one language on, it is the language of the data."""


def front_matter(facts: CardFacts, name: str, licence: str = "") -> str:
    """YAML between two rules.

    Args:
        facts: What is known of the run.
        name: Of the adapter, for the model-index.
        licence: Of the adapter, if its maker chose one.
    """
    from huggingface_hub import ModelCardData

    values: dict[str, Any] = {
        "library_name": "peft",
        "pipeline_tag": TASK,
        "tags": TAGS,
    }
    base = facts.config.model
    if not is_bundled(base) and "/" in base_name(base) and not is_local(base_name(base)):
        values |= {"base_model": base_name(base), "base_model_relation": "adapter"}
    repos = list(dict.fromkeys(source.repo for source in facts.sources if source.repo))
    if repos:
        values["datasets"] = repos
    if licence:
        values["license"] = licence
    if facts.report is not None:
        language = language_of(facts.report)
        if language:
            values["language"] = [language]
        results = _results(facts, facts.report)
        values["metrics"] = list(dict.fromkeys(result.metric_type for result in results))
        values |= {"model_name": name, "eval_results": results}
    text: str = ModelCardData(**values).to_yaml(line_break="\n")
    return f"---\n{text.strip()}\n---\n"


def language_of(report: Report) -> str | None:
    """The language that most references are written in, by its ISO 639-1 code, if that is clear."""
    from qa_lora.data.languages import LONG_ENOUGH, languages_of

    texts = [f"{row.question} {row.references[0]}" for row in report.examples if row.references]
    found = languages_of([text for text in texts if len(text) >= LONG_ENOUGH][:200])
    return found[0].code if found and found[0].share >= SAME_LANGUAGE else None


def _results(facts: CardFacts, report: Report) -> list[EvalResult]:
    """The fine-tuned model's scores, one for each metric, between 0 and 1."""
    from huggingface_hub import EvalResult

    names = [source.name for source in facts.scored_on] or ["questions and answers"]
    one = facts.scored_on[0].repo if len(names) == 1 and facts.scored_on else None
    return [
        EvalResult(
            task_type=TASK,
            task_name="Question answering",
            dataset_type=one or "questions-and-answers",
            dataset_name=" + ".join(names),
            dataset_split=report.split,
            dataset_args={"questions": report.rows, "fingerprint": report.test_fingerprint},
            metric_type=METRIC_TYPES.get(metric, metric),
            metric_name=LABELS.get(metric, metric),
            metric_value=round(report.tuned[metric], 4),
        )
        for metric in report.metrics
        if metric in report.tuned
    ]
