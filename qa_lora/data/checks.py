"""The data report: what was read and dropped, what will be cut, whether anything leaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qa_lora.config import TrainConfig
from qa_lora.data.example import QAExample
from qa_lora.data.histogram import token_lengths
from qa_lora.data.languages import languages_of
from qa_lora.data.near import find
from qa_lora.data.report import DataReport, DropReason, OverlapPair, TrainingNeeds, shorten_line
from qa_lora.data.rows import LoadedData, load_and_split
from qa_lora.data.seen import SeenExample, seen_examples
from qa_lora.data.split import DataSplit, overlaps
from qa_lora.data.tally import Tally, sides_of, spread, tally
from qa_lora.errors import ModelError
from qa_lora.prompts import PromptTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from qa_lora.estimate import RowLengths

__all__ = ["check", "check_config", "check_loaded"]

PREVIEW_ROWS = 3
FIRST_ROWS = 5
PAIRS_SHOWN = 20
CHARACTERS_SHOWN = 50
NEAR_EXAMPLES = 50_000
"""Near duplicates are looked for among at most so many examples, evenly spread."""
NEAR = 0.8
"""Questions at least this alike count as nearly equal where the settings name no threshold."""


def check_config(
    config: TrainConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    runs_dir: Path | None = None,
) -> DataReport:
    """Load, divide and report on the data that a config names.

    Args:
        config: The settings.
        tokenizer: That of the config's model; None leaves out whatever is counted in tokens.
        runs_dir: Where past runs lie, to estimate a training from them; without it, none is.

    Raises:
        DataError: If the data cannot be used.
    """
    loaded, split = load_and_split(config)
    return check_loaded(config, loaded, split, tokenizer=tokenizer, runs_dir=runs_dir)


def check_loaded(
    config: TrainConfig,
    loaded: LoadedData,
    split: DataSplit,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    runs_dir: Path | None = None,
) -> DataReport:
    """The same on data that is read and divided already; see :func:`check_config`."""
    if tokenizer is not None:
        from qa_lora.whitespace import choose_tokenizer

        answers = (example.answer for example in split.train)
        tokenizer, _ = choose_tokenizer(tokenizer, config.whitespace_tokens, answers)
    template = PromptTemplate(config.prompt, config.context_prompt, config.history_prompt)
    found = tally(split, template, tokenizer)
    report = _report(
        loaded,
        split,
        found,
        tokenizer=tokenizer,
        template=template,
        max_source_tokens=config.max_source_tokens,
        max_target_tokens=config.max_target_tokens,
        near_duplicates=config.near_duplicates,
    )
    needs = None
    if tokenizer is not None and runs_dir:
        needs = _needs(config, _row_lengths(config, found, split.to_come), runs_dir)
    return dataclasses.replace(
        report,
        model=config.model if tokenizer is not None else "",
        overlong=config.overlong,
        needs=needs,
    )


def check(
    loaded: LoadedData,
    split: DataSplit,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    template: PromptTemplate,
    max_source_tokens: int,
    max_target_tokens: int,
    near_duplicates: float | None = None,
) -> DataReport:
    """Report on loaded and divided data.

    Args:
        loaded: The examples, and the rows that gave none.
        split: Their division.
        tokenizer: Counts tokens and shows what the model sees; None leaves that out.
        template: Makes the prompts.
        max_source_tokens: Longer prompts are cut.
        max_target_tokens: Longer answers are cut.
        near_duplicates: From which similarity on, 0 to 1, the split kept questions on one side;
            None if it did not.
    """
    return _report(
        loaded,
        split,
        tally(split, template, tokenizer),
        tokenizer=tokenizer,
        template=template,
        max_source_tokens=max_source_tokens,
        max_target_tokens=max_target_tokens,
        near_duplicates=near_duplicates,
    )


def _report(
    loaded: LoadedData,
    split: DataSplit,
    found: Tally,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    template: PromptTemplate,
    max_source_tokens: int,
    max_target_tokens: int,
    near_duplicates: float | None,
) -> DataReport:
    limits = {"max_source_tokens": max_source_tokens, "max_target_tokens": max_target_tokens}
    counted: dict[str, Any] = {}
    if tokenizer is not None and len(found.sampled):
        too_long = (found.prompt_tokens > max_source_tokens) | (
            found.answer_tokens > max_target_tokens
        )
        counted = {
            "sampled": len(found.sampled),
            "overlong_examples": _of_all(too_long, found),
            "lost_characters": found.lost_characters[:CHARACTERS_SHOWN],
            "harmed": found.harmed,
            "seen": _seen(loaded, split, found, too_long, tokenizer, template, limits),
        }
    texts = found.long_texts
    return DataReport(
        source=loaded.source,
        columns={role: name for role, name in asdict(loaded.columns).items() if name},
        column_names=tuple(loaded.column_names),
        form=loaded.form,
        rows_in_source=loaded.rows_in_source,
        rows_read=loaded.rows_read,
        examples=found.examples,
        questions=found.questions,
        duplicates=found.duplicates,
        several_answers=found.several_answers,
        short_answers=found.short_answers,
        short_examples=tuple(found.short_examples),
        sides={
            side: {"rows": size, "questions": len(found.keys[side])}
            for side, size in found.sizes.items()
        },
        given_split=loaded.given,
        notes=tuple(split.notes),
        prompt_tokens=token_lengths(found.prompt_tokens, max_source_tokens) if counted else None,
        answer_tokens=token_lengths(found.answer_tokens, max_target_tokens) if counted else None,
        languages=languages_of(texts),
        language_texts=len(texts),
        preview=tuple(
            {"question": e.question, "answer": e.answer, "context": e.context}
            for e in loaded.examples[:PREVIEW_ROWS]
        ),
        fingerprint=split.fingerprint,
        **_alike(split, found, near_duplicates=near_duplicates, given=loaded.given),
        **_rows(loaded, split),
        **counted,
    )


def _rows(loaded: LoadedData, split: DataSplit) -> dict[str, Any]:
    """How many rows are used, and why the others are not."""
    drops: list[tuple[str, int, str]] = [
        (each.reason, each.row, each.text) for each in loaded.dropped
    ]
    removed = {each.id: each.reason for each in split.removed}
    if not removed:
        # Rows of one file stand together, in their order.
        used = sum(
            row != before
            for row, before in pairwise(chain([None], zip(loaded.files, loaded.rows, strict=True)))
        )
    else:
        kept = set()
        lost: dict[tuple[str, str, int], str] = {}
        places = zip(loaded.examples, loaded.files, loaded.rows, strict=True)
        for example, file, row in places:
            if (reason := removed.get(example.id)) is None:
                kept.add((file, row))
            else:
                lost.setdefault((reason, file, row), f"{example.question} -> {example.answer}")
        used = len(kept)
        drops += [(reason, row, text) for (reason, _, row), text in lost.items()]
    return {"rows_used": used, "dropped": _drop_reasons(drops)}


def _drop_reasons(drops: Sequence[tuple[str, int, str]]) -> tuple[DropReason, ...]:
    """The reasons, commonest first."""
    rows: dict[str, list[tuple[int, str]]] = {}
    for reason, row, text in drops:
        rows.setdefault(reason, []).append((row, text))
    reasons = []
    for reason, where in rows.items():
        first = sorted(where)[:FIRST_ROWS]
        reasons.append(
            DropReason(
                reason,
                len(where),
                tuple(row for row, _ in first),
                tuple(shorten_line(text, 80) for _, text in first if text),
            )
        )
    return tuple(sorted(reasons, key=lambda each: (-each.count, each.reason)))


def _of_all(too_long: Any, found: Tally) -> int:
    """Examples of train and validation that are too long, judged by the sample."""
    trained_on = found.sizes["train"] + found.sizes["validation"]
    mine = too_long[found.sampled < trained_on]
    return round(float(mine.mean()) * trained_on) if len(mine) else 0


def _seen(
    loaded: LoadedData,
    split: DataSplit,
    found: Tally,
    too_long: Any,
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    limits: dict[str, int],
) -> tuple[SeenExample, ...]:
    """The first examples, and the first one that is cut if none of these is."""
    shown: list[QAExample] = list(loaded.examples[:PREVIEW_ROWS])
    cut = found.sampled[too_long]
    if len(cut):
        example = _at(split, int(cut[0]))
        shown = [example, *(each for each in shown if each.id != example.id)][:PREVIEW_ROWS]
    return seen_examples(shown, tokenizer, template, **limits)


def _at(split: DataSplit, number: int) -> QAExample:
    """The example with a number that counts over all sides."""
    for rows in sides_of(split).values():
        if number < len(rows):
            return rows[number]
        number -= len(rows)
    raise IndexError(number)


def _alike(
    split: DataSplit, found: Tally, *, near_duplicates: float | None, given: bool
) -> dict[str, Any]:
    """Questions that are equal or near, on two sides and anywhere."""
    threshold = near_duplicates or NEAR
    values: dict[str, Any] = {}
    questions, pairs = found.overlap()
    values["overlap"] = questions
    # A split that kept near ones together has none; looking takes as long as splitting did.
    if questions or given or near_duplicates is None or split.notes:
        across = overlaps(split, threshold, PAIRS_SHOWN)
        values["near_overlap"] = max(0, across.total - pairs)
        values["overlap_pairs"] = tuple(
            OverlapPair(
                each.side, each.question, each.other_side, each.other_question, each.similarity
            )
            for each in across
        )
    count = min(found.examples, NEAR_EXAMPLES)
    examples = list(spread(sides_of(split), count))
    near = find(
        [example.question for example in examples],
        threshold,
        beside=[
            "\n".join([example.context, *(text for turn in example.history for text in turn)])
            for example in examples
        ],
    )
    near = near.where(near.similarity < 1)
    first = np.argsort(-near.similarity, kind="stable")[:PAIRS_SHOWN]
    return {
        **values,
        "near_duplicates": len(np.union1d(near.first, near.second)),
        "near_pairs": tuple(
            (
                examples[int(near.first[at])].question,
                examples[int(near.second[at])].question,
                float(near.similarity[at]),
            )
            for at in first
        ),
        "near_examples": count,
    }


def _needs(config: TrainConfig, lengths: RowLengths, runs_dir: Path) -> TrainingNeeds | None:
    """What a training would need; None where the model's size is not known."""
    from qa_lora.estimate import estimate, model_shape, past_runs, this_room

    try:
        shape = model_shape(config.model)
        room = this_room(config.precision)
        needs = estimate(config, shape, room, lengths, past_runs(runs_dir))
    except ModelError:
        return None
    return TrainingNeeds(
        time=needs.time,
        seconds=needs.seconds,
        steps=needs.steps,
        memory=needs.memory,
        fits=needs.fits,
        speed_from=needs.speed_from,
    )


def _row_lengths(config: TrainConfig, found: Tally, to_come: int) -> RowLengths:
    """The lengths that were counted, for as many rows as there are to train on."""
    from qa_lora.estimate import RowLengths, standing_for_all

    sizes = found.sizes
    train = found.sampled < sizes["train"]
    validation = ~train & (found.sampled < sizes["train"] + sizes["validation"])

    def of(chosen: Any, rows: int) -> tuple[tuple[int, int], ...]:
        prompts, answers = (
            found.prompt_tokens[chosen].tolist(),
            found.answer_tokens[chosen].tolist(),
        )
        return standing_for_all(list(zip(prompts, answers, strict=True)), rows, config)

    return RowLengths(
        of(train, sizes["train"] + to_come),
        of(validation, min(sizes["validation"], config.validation_rows)),
        sizes["test"],
        exact=True,
    )
