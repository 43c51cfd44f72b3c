"""A card's text: what the adapter is, how it was made, how good it is, and how to load it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qa_lora.base_names import base_name, is_bundled, is_local
from qa_lora.card.facts import CardFacts, sources_of
from qa_lora.card.front import front_matter, language_of
from qa_lora.config import SOURCES, TrainConfig
from qa_lora.data.sources import without_folders
from qa_lora.loading_snippet import loading_snippet
from qa_lora.markdown import cell, code, fenced, shortened, table
from qa_lora.prompts import PromptTemplate
from qa_lora.report import BASE, FACT_ACCURACY, TUNED, ExampleResult, Report, headline
from qa_lora.report.markdown import score_tables
from qa_lora.report.verdict import verdict
from qa_lora.secrets import find_secrets

__all__ = ["adapter_card", "write_card"]

HERE = "path/to/this/folder"
NOT_SHOWN = ("model", "name", "backup", "probe_questions")
"""Settings that the card tells elsewhere, that concern this machine alone, or quote its user."""
EXAMPLES = 3
FEW_ROWS = 500
PROMPTS = ("prompt", "context_prompt", "history_prompt")


def adapter_card(config: TrainConfig) -> str:
    """The card of an adapter that is still being trained: all that its settings say.

    Args:
        config: The settings of the training that makes the adapter.
    """
    return write_card(CardFacts(config, sources=sources_of(config)))


def write_card(
    facts: CardFacts,
    *,
    adapter: str = HERE,
    licence: str = "",
    plot: str = "",
    examples: int | None = None,
) -> str:
    """Markdown with the front matter that the Hub reads. No folder of this machine is named.

    Args:
        facts: What is known of the run.
        adapter: Where the adapter will be loaded from: a Hub id, or a folder.
        licence: Of the adapter, if its maker chose one.
        plot: Name of the picture of the losses, if there is one.
        examples: How many held-out questions are shown with their answers; if None a few, but none
            of data that lies on this machine alone.
    """
    if examples is None:
        examples = default_examples(facts)
    name = adapter.rpartition("/")[2] if adapter != HERE else facts.run or "adapter"
    base = base_name(facts.config.model)
    known = facts.started is not None
    parts = [
        front_matter(facts, name, licence),
        f"# A LoRA adapter for {cell(base)}",
        "Trained with QA LoRA on questions and answers; `prompt.json` holds the prompt it expects.",
        _headline(facts),
        "## How to load it",
        _loading(facts.config, adapter),
        "## Training data" if facts.sources else "",
        _data(facts),
        "## Training" if known or facts.config.changed() else "",
        _training(facts),
        f"![Train and validation loss over the steps]({plot})" if plot else "",
        _settings(facts.config),
        "## Evaluation" if known else "",
        _evaluation(facts) if known else "",
        *(_examples(facts.report, examples) if facts.report is not None else ()),
        "## Limits" if known else "",
        _limits(facts) if known else "",
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def default_examples(facts: CardFacts) -> int:
    """How many answers a card shows unless somebody wishes otherwise."""
    return 0 if any(source.here for source in (*facts.sources, *facts.scored_on)) else EXAMPLES


def _headline(facts: CardFacts) -> str:
    if facts.report is None:
        return ""
    found = verdict(_two(facts.report))
    return f"**{found.title}** {headline(facts.report)}."


def _loading(config: TrainConfig, adapter: str) -> str:
    base = base_name(config.model)
    at_home = is_local(config.model) and not is_bundled(config.model) and "/" not in base
    snippet = loading_snippet(
        f"path/to/{base}" if at_home else base,
        adapter,
        template=PromptTemplate(**{name: getattr(config, name) for name in PROMPTS}),
        max_new_tokens=config.max_new_tokens,
    )
    return f"""```python
{snippet}```

With QA LoRA, base and tuned answer side by side:

```
qa-lora ask "Your question" --run {adapter}
```"""


def _data(facts: CardFacts) -> str:
    rows = [("source", "used for", "licence")]
    for source in facts.sources:
        name = cell(source.name)
        if source.repo:
            name = f"[{name}](https://huggingface.co/datasets/{source.repo})"
        rows.append((name, source.use, cell(source.licence or "") or "unknown"))
    parts = [_left(rows)] if facts.sources else []
    if facts.started is not None:
        counts = facts.started
        parts.append(
            f"Rows: {counts.train_rows:,} for training, {counts.validation_rows:,} for validation, "
            f"{counts.test_rows:,} held out for the test. The sides have no question in common."
        )
        if counts.test_fingerprint:
            parts.append(f"Fingerprint of the test side: `{counts.test_fingerprint}`")
    return "\n\n".join(parts)


def _training(facts: CardFacts) -> str:
    rows: list[tuple[str, str]] = []
    started, finished = facts.started, facts.finished
    base = facts.environment.get("base")
    if isinstance(base, dict) and base.get("commit"):
        rows.append(("base", f"{base_name(facts.config.model)}, commit {base['commit']}"))
    if started is not None:
        share = started.trainable_parameters / max(1, started.all_parameters)
        device = f"{started.device}, {started.precision}"
        if started.processes > 1:
            device += f", {started.processes} processes"
        rows += [
            ("trained", f"{started.trainable_parameters:,} of {started.all_parameters:,} "
                        f"parameters ({share:.2%})".replace("%", " %")),
            ("hardware", device),
        ]  # fmt: skip
    if finished is not None:
        of = f" of {started.total_steps:,}" if started is not None else ""
        rows += [
            ("steps", f"{finished.step:,}{of} ({finished.reason.replace('_', ' ')})"),
            ("time", _duration(finished.seconds)),
            ("speed", f"{finished.tokens_per_second:,.0f} tokens a second"),
        ]
        if finished.train_loss is not None:
            rows.append(("train loss", f"{finished.train_loss:.3f}"))
        if finished.validation_loss is not None:
            rows.append(("validation loss", f"{finished.validation_loss:.3f}"))
    packages = facts.environment.get("packages")
    if isinstance(packages, dict):
        versions = [f"{name} {version}" for name, version in packages.items()]
        python = facts.environment.get("python")
        rows.append(
            ("versions", ", ".join([f"Python {python}", *versions] if python else versions))
        )
    return _left([("", ""), *((cell(name), cell(value)) for name, value in rows)]) if rows else ""


def _settings(config: TrainConfig) -> str:
    rows = [
        (name, code(_shown(name, value)))
        for name, value in config.changed().items()
        if name not in NOT_SHOWN
    ]
    if not rows:
        return ""
    return "Settings that differ from the defaults:\n\n" + _left([("setting", "value"), *rows])


def _shown(name: str, value: Any) -> str:
    if name in SOURCES:
        return ", ".join(without_folders(str(value)).splitlines())
    return base_name(str(value)) if name == "init_adapter" else str(value)


def _evaluation(facts: CardFacts) -> str:
    report = facts.report
    if report is None:
        old = " since its training went on" if facts.stale else ""
        return f"This adapter was not scored{old}: how good its answers are is not known."
    whose = {
        "test": "held-out questions that the training never saw",
        "validation": "questions of the validation side, which steered the training",
        "train": "questions that it was trained on, so these scores flatter",
    }.get(report.split, "questions of a separate file")
    if not _is_own(facts):
        names = ", ".join(cell(source.name) for source in facts.scored_on)
        whose = f"questions of {names}, none of which it was trained on"
    number = f"{report.rows:,}"
    if not report.complete:
        number += f" of {report.asked:,}"
    parts = [f"Base and tuned model answered the same {number} {whose}."]
    if report.test_fingerprint:
        parts.append(f"Fingerprint of these questions and references: `{report.test_fingerprint}`")
    return "\n\n".join([" ".join(parts), score_tables(report, TUNED)])


def _is_own(facts: CardFacts) -> bool:
    """Whether it was scored on the data that it was trained on, or on a side of that."""
    return set(facts.scored_on) <= set(facts.sources)


def _examples(report: Report, count: int) -> list[str]:
    """Questions spread evenly from the most gain to the least: none is picked to please."""
    gains = sorted(
        ((gain, row) for row in report.examples if (gain := row.gain("rougeL")) is not None),
        key=lambda each: -each[0],
    )
    # What a text of the data gives away is not repeated in public.
    shown = [(gain, row) for gain, row in gains if not find_secrets("", _fields(row).encode())]
    count = min(count, len(shown))
    if count < 1:
        return []
    places = [round(i * (len(shown) - 1) / max(1, count - 1)) for i in range(count)]
    blocks = [
        f"ROUGE-L of base {row.base_scores['rougeL']:.2f}, of tuned "
        f"{row.tuned_scores['rougeL']:.2f} ({gain:+.2f}):\n\n{fenced(_fields(row))}"
        for gain, row in (shown[place] for place in dict.fromkeys(places))
    ]
    return ["### Some answers", "From the largest gain to the largest loss:", *blocks]


def _fields(row: ExampleResult) -> str:
    texts = [
        ("question", row.question),
        *([("context", row.context)] if row.context else []),
        *(("reference", text) for text in row.references[:1]),
        (BASE, row.base),
        (TUNED, row.tuned),
    ]
    return "\n".join(f"{name}: {shortened(text)}" for name, text in texts)


def _limits(facts: CardFacts) -> str:
    config, report, started = facts.config, facts.report, facts.started
    points = [
        "It can state wrong facts in good sentences. LoRA teaches a manner of answering; what it "
        "knows comes mostly from the base model."
    ]
    if report is not None and FACT_ACCURACY in report.tuned:
        points[0] += (
            f" In the evaluation {report.tuned[FACT_ACCURACY]:.0%} of its answers held the right "
            f"fact, and {report.base[FACT_ACCURACY]:.0%} of the base model's."
        ).replace("%", " %")
    if started is not None and started.train_rows < FEW_ROWS:
        points.append(
            f"It was trained on {started.train_rows:,} rows, which is little: it may have learnt "
            "them by heart."
        )
    if report is not None and report.rows < 100:
        points.append(
            f"It was scored on {report.rows:,} questions; the intervals show how little that says."
        )
    points.append(
        f"Prompts are cut at {config.max_source_tokens:,} tokens, and it learnt from at most "
        f"{config.max_target_tokens:,} tokens of an answer."
    )
    if report is not None and report.cut_tuned:
        points[-1] += f" {report.cut_tuned:.0%} of its answers ended only at the limit.".replace(
            "%", " %"
        )
    language = language_of(report) if report is not None else None
    points.append(
        f"Its data is in one language ({language}); in others it is untested."
        if language
        else "In languages other than that of its data it is untested."
    )
    points.append("Nobody has checked it for harmful or biased answers.")
    return "\n".join(f"- {point}" for point in points)


def _two(report: Report) -> Report:
    """The same report without further adapters, which are no matter of this card."""
    import dataclasses

    return dataclasses.replace(report, differences={TUNED: report.differences[TUNED]})


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _left(rows: Sequence[tuple[str, ...]]) -> str:
    """A table of words, which stand at the left."""
    return table(rows).replace("---:", "---", len(rows[0]))
