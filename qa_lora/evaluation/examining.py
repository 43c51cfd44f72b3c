"""Lets the systems answer questions, and scores what they say."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from qa_lora.answering import Answer, Answerer, GenerationSettings
from qa_lora.answering.effect import measure_effect
from qa_lora.batching import EncodedExample
from qa_lora.config import TrainConfig
from qa_lora.data import QAExample
from qa_lora.encoding import encode_texts
from qa_lora.evaluation.asked import Question
from qa_lora.evaluation.reference_loss import LossSum, summed_loss
from qa_lora.report import FACT_ACCURACY, ExampleResult
from qa_lora.scoring import CorpusStats, score_all
from qa_lora.scoring.traits import fact_recall, is_repeating, length_ratio

__all__ = ["Examined", "Examiner"]

Sum = TypeVar("Sum", LossSum, CorpusStats)


@dataclass(frozen=True)
class Examined:
    """What was found about some questions; parts add up."""

    results: dict[int, ExampleResult] = field(default_factory=dict)
    """By the place of the question."""
    losses: dict[str, LossSum] = field(default_factory=dict)
    """By system."""
    corpus: dict[str, CorpusStats] = field(default_factory=dict)

    def __add__(self, other: Examined) -> Examined:
        return Examined(
            self.results | other.results,
            _added(self.losses, other.losses),
            _added(self.corpus, other.corpus),
        )

    def placed(self, places: Sequence[int]) -> Examined:
        """The same with other numbers: those that stand at the present ones."""
        results = {places[at]: result for at, result in self.results.items()}
        return Examined(results, self.losses, self.corpus)


def _added(ours: Mapping[str, Sum], theirs: Mapping[str, Sum]) -> dict[str, Sum]:
    both = {name: ours[name] + theirs[name] for name in ours if name in theirs}
    return {**ours, **theirs, **both}


class Examiner:
    """Puts questions to systems.

    Args:
        answerer: Has the systems.
        systems: Who answers; the base is first.
        settings: How answers are generated.
        remove_stopwords: As for :func:`qa_lora.scoring.score_all`.
        loss: Also compute the loss of the references.
        should_stop: Asked after every batch.
    """

    def __init__(
        self,
        answerer: Answerer,
        systems: Sequence[str],
        settings: GenerationSettings,
        *,
        remove_stopwords: bool = False,
        loss: bool = True,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.answerer = answerer
        self.systems = tuple(systems)
        self.settings = settings
        self.remove_stopwords = remove_stopwords
        self.loss = loss
        self.should_stop = should_stop
        config = answerer.run.config() if answerer.run else TrainConfig()
        self.max_target_tokens = config.max_target_tokens

    def examine(self, questions: Sequence[Question]) -> Generator[int, None, Examined | None]:
        """Ask all systems some questions.

        Yields:
            How many are answered.

        Returns:
            What was found, or None if it was stopped before all was done.
        """
        answers: dict[int, dict[str, Answer]] = {}
        for place, said in self.answerer.answer_many(
            [question.example for question in questions],
            systems=self.systems,
            settings=self.settings,
            should_stop=self.should_stop,
        ):
            answers[place] = said
            yield len(answers)
        if len(answers) < len(questions):
            return None
        losses = self._losses([row for question in questions for row in question.rows])
        if losses is None:
            return None
        # All systems' answers to a question side by side: its references are looked at once.
        count = len(self.systems)
        scored = score_all(
            [answers[at][system].text for at in range(len(questions)) for system in self.systems],
            [question.references for question in questions for _ in self.systems],
            remove_stopwords=self.remove_stopwords,
        )
        results = {}
        for at, question in enumerate(questions):
            own = scored.rows[at * count : (at + 1) * count]
            results[at] = _result(question, answers[at], dict(zip(self.systems, own, strict=True)))
        corpus = {
            system: CorpusStats.total(scored.stats[at::count])
            for at, system in enumerate(self.systems)
        }
        return Examined(results, losses, corpus)

    def effects(self, questions: Sequence[Question], found: Examined) -> dict[str, dict[str, Any]]:
        """How much each adapter changes what the base says to some of the questions.

        The divergence is None where it is no finite number, as that of a broken adapter.
        """
        effects = {}
        for system in self.systems[1:]:
            effect = measure_effect(
                self.answerer,
                [question.example for question in questions],
                system=system,
                answers=[found.results[at].answers[system] for at in range(len(questions))],
            )
            finite = math.isfinite(effect.mean_kl)
            effects[system] = asdict(effect) | {"mean_kl": effect.mean_kl if finite else None}
        return effects

    def _losses(self, rows: Sequence[QAExample]) -> dict[str, LossSum] | None:
        """The loss of every reference row, by system; None if it was stopped."""
        found: dict[str, LossSum] = {}
        for system in self.systems if self.loss else ():
            tokenizer = self.answerer.tokenizer_of(system)
            prompts = self.answerer.prompts(rows, system)
            labels = encode_texts(tokenizer, [row.answer for row in rows], self.max_target_tokens)
            encoded = [
                EncodedExample(prompt.ids, ids) for prompt, ids in zip(prompts, labels, strict=True)
            ]
            with self.answerer.acting(system) as model:
                part = summed_loss(
                    model, encoded, tokenizer.pad_token_id, should_stop=self.should_stop
                )
            if part is None:
                return None
            found[system] = part
        return found


def _result(
    question: Question, said: Mapping[str, Answer], scores: dict[str, dict[str, float]]
) -> ExampleResult:
    if question.facts:
        for system, answer in said.items():
            scores[system][FACT_ACCURACY] = fact_recall(answer.text, question.facts)
    return ExampleResult(
        id=question.example.id,
        question=question.example.question,
        context=question.example.context,
        references=question.references,
        answers={system: answer.text for system, answer in said.items()},
        scores=scores,
        traits={system: _traits(answer, question.references) for system, answer in said.items()},
        source=question.source,
    )


def _traits(answer: Answer, references: Sequence[str]) -> dict[str, float]:
    return {
        "cut": float(answer.cut),
        "empty": float(not answer.text.strip()),
        "repeating": float(is_repeating(answer.text)),
        "prompt_cut": float(bool(answer.notice)),
        "length_ratio": length_ratio(answer.text, references),
    }
