"""Ask a run: base and fine-tuned answers from one base model in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from qa_lora import runs
from qa_lora.adapters import attach_adapter
from qa_lora.config import TrainConfig
from qa_lora.data.example import QAExample
from qa_lora.encoding import Prompt, fit_prompts
from qa_lora.errors import QALoRAError
from qa_lora.following import follow
from qa_lora.generation import Answer, GenerationSettings, Watch, generate_batch
from qa_lora.locate import locate
from qa_lora.models import load_adapter_tokenizer, load_base
from qa_lora.prompts import PromptTemplate

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Answer",
    "Answerer",
    "Comparison",
    "GenerationSettings",
    "Variant",
    "generate_batch",
    "load",
]

Variant: TypeAlias = Literal["base", "tuned"]
Told: TypeAlias = tuple[list[Answer], bool]

VARIANTS: list[Variant] = ["base", "tuned"]

ADAPTER_NAME: dict[Variant, str] = {"base": "__base__", "tuned": "default"}
"""What peft calls the rows of a mixed batch."""

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 16_384, 32_768
"""Prompt and answer tokens, padding included, in one batch of :meth:`Answerer.answer_pairs`.

Their keys and values take about 6 GB for FLAN-T5 XL in bf16 at the larger figure.
"""


@dataclass(frozen=True)
class Comparison:
    """Both answers to one question, complete or so far."""

    base: Answer
    tuned: Answer
    done: bool


class Answerer:
    """A base model and one adapter on it; safe to use from several threads, one at a time.

    Args:
        model: The base with its adapter, named "default".
        tokenizer: That of the training.
        template: How a question becomes a prompt; the one of the training.
        max_source_tokens: Longer prompts are made to fit.
        settings: How answers are generated unless a call says otherwise.
        run: The run it belongs to, if it does to one.
        base_tokenizer: That of the base, where the training added tokens to it. The base never
            sees them: it reads and writes what it would without the adapter.
    """

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: PromptTemplate,
        max_source_tokens: int,
        settings: GenerationSettings | None = None,
        run: runs.Run | None = None,
        base_tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.base_tokenizer = base_tokenizer or tokenizer
        self.template = template
        self.max_source_tokens = max_source_tokens
        self.settings = settings or GenerationSettings()
        self.run = run
        self._mixes = _can_mix(model)
        self._lock = threading.Lock()

    def answer(
        self,
        question: str,
        context: str = "",
        *,
        history: Sequence[tuple[str, str]] = (),
        variant: Variant = "tuned",
        settings: GenerationSettings | None = None,
    ) -> Answer:
        """Answer a question.

        Args:
            question: The question.
            context: A passage to read, or nothing.
            history: Earlier turns as (question, answer), oldest first.
            variant: Who answers: "base" is the untouched base model.
            settings: How; the run's own settings if None.

        Raises:
            QALoRAError: If the question is blank, or the memory does not suffice.
        """
        last = Answer("")
        for (answer,), _ in self._follow(question, context, history, [variant], settings):
            last = answer
        return last

    def stream(
        self,
        question: str,
        context: str = "",
        *,
        history: Sequence[tuple[str, str]] = (),
        variant: Variant = "tuned",
        settings: GenerationSettings | None = None,
    ) -> Iterator[str]:
        """Like :meth:`answer`, piece by piece; the pieces joined are the answer's text.

        Closing the iterator ends the generation.
        """
        shown = ""
        for (answer,), _ in self._follow(question, context, history, [variant], settings):
            if len(answer.text) > len(shown) and answer.text.startswith(shown):
                yield answer.text[len(shown) :]
                shown = answer.text

    def compare(
        self,
        question: str,
        context: str = "",
        *,
        history: Sequence[tuple[str, str]] = (),
        settings: GenerationSettings | None = None,
    ) -> Iterator[Comparison]:
        """Both answers while they grow, from one batch; the last one is `done`.

        Closing the iterator ends the generation. An adapter that cannot share a batch with its base
        (DoRA) answers after it.

        Raises:
            QALoRAError: If the question is blank, or the memory does not suffice.
        """
        for (base, tuned), done in self._follow(question, context, history, VARIANTS, settings):
            yield Comparison(base, tuned, done)

    def answer_pairs(
        self,
        examples: Sequence[QAExample],
        *,
        settings: GenerationSettings | None = None,
        batch_tokens: int | None = None,
    ) -> Iterator[tuple[int, Answer, Answer]]:
        """Base and tuned answers to many questions, in batches of prompts of like length.

        Args:
            examples: The questions; their own answers are not looked at.
            settings: How; the run's own settings if None.
            batch_tokens: Prompt and answer tokens in one batch, base and tuned rows counted, so
                that memory stays bounded; by the kind of device if None.

        Yields:
            The example's index, the base model's answer and the tuned one; longest prompts first.
        """
        settings = settings or self.settings
        on_cpu = self.model.device.type == "cpu"
        budget = batch_tokens or (CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS)
        if not examples:
            return
        with self._lock:
            pairs = list(zip(*(self._fit(examples, v) for v in VARIANTS), strict=True))
        lengths = [max(len(prompt.ids) for prompt in pair) for pair in pairs]
        order = sorted(range(len(pairs)), key=lambda i: -lengths[i])
        while order:
            width = 2 * settings.num_beams * (lengths[order[0]] + settings.max_new_tokens)
            rows = max(1, budget // width)
            batch, order = order[:rows], order[rows:]
            with self._lock:
                answers = self._generate(
                    [prompt for i in batch for prompt in pairs[i]],
                    VARIANTS * len(batch),
                    settings,
                )
            yield from zip(batch, answers[::2], answers[1::2], strict=True)

    def _follow(
        self,
        question: str,
        context: str,
        history: Sequence[tuple[str, str]],
        variants: list[Variant],
        settings: GenerationSettings | None,
    ) -> Iterator[Told]:
        """Answers to one prompt while they grow, one for each variant, and whether they are done.

        A thread of its own generates, so that no torch context is open while the caller works and
        so that a caller who leaves can stop it.
        """
        if not question.strip():
            raise QALoRAError("There is no question.", "Write one to get an answer.")
        asked = QAExample("", question, "", context, tuple(history))

        def work(tell: Callable[[Told], None], left: Callable[[], bool]) -> None:
            def watch(answers: list[Answer]) -> bool:
                if answers:
                    tell((answers, False))
                return not left()

            while not self._lock.acquire(timeout=0.1):
                if left():
                    return
            try:
                prompts = [self._fit([asked], variant)[0] for variant in variants]
                tell((self._generate(prompts, variants, settings or self.settings, watch), True))
            finally:
                self._lock.release()

        return follow(work, name="qa-lora-answer")

    def _tokenizer(self, variant: Variant) -> PreTrainedTokenizerBase:
        return self.base_tokenizer if variant == "base" else self.tokenizer

    def _fit(self, examples: Sequence[QAExample], variant: Variant) -> list[Prompt]:
        """The prompts as training made them; for the base as they would be without an adapter."""
        tokenizer = self._tokenizer(variant)
        return fit_prompts(tokenizer, self.template, examples, self.max_source_tokens)

    def _generate(
        self,
        prompts: list[Prompt],
        variants: Sequence[Variant],
        settings: GenerationSettings,
        watch: Watch | None = None,
    ) -> list[Answer]:
        """Answer each prompt by its variant, in one batch where the adapter allows it."""

        def generate(rows: list[int], names: list[str] | None, watch: Watch | None) -> list[Answer]:
            return generate_batch(
                self.model,
                self._tokenizer(variants[rows[0]]),
                [prompts[i] for i in rows],
                adapter_names=names,
                watch=watch,
                **asdict(settings),
            )

        if self._mixes:  # then both have one tokenizer
            names = [ADAPTER_NAME[variant] for variant in variants]
            return generate(list(range(len(prompts))), names, watch)
        answers = [Answer("")] * len(prompts)
        for variant in dict.fromkeys(variants):
            rows = [i for i, other in enumerate(variants) if other == variant]
            off = self.model.disable_adapter() if variant == "base" else nullcontext()
            with off:
                done = generate(rows, None, watch and _merged(watch, answers, rows))
            for i, answer in zip(rows, done, strict=True):
                answers[i] = answer
        return answers


def _merged(watch: Watch, answers: list[Answer], rows: list[int]) -> Watch:
    """A watch of some rows that shows them to a watch of all rows."""

    def watch_rows(part: list[Answer]) -> bool:
        if not part:
            return watch([])
        fresh = dict(zip(rows, part, strict=True))
        return watch([fresh.get(i, answer) for i, answer in enumerate(answers)])

    return watch_rows


def _can_mix(model: PeftModel) -> bool:
    """Whether peft can run base and tuned rows in one batch of this model."""
    from peft import LoraConfig, PeftModelForSeq2SeqLM

    config = model.peft_config["default"]
    return (
        isinstance(model, PeftModelForSeq2SeqLM)
        and isinstance(config, LoraConfig)
        and not config.use_dora
        and not config.modules_to_save
        and not config.trainable_token_indices
    )


def load(
    run: str | Path | runs.Run, *, runs_dir: str | Path | None = None, precision: str | None = None
) -> Answerer:
    """Load the base model and the adapter of a run, or any PEFT LoRA adapter.

    Args:
        run: A run's id or folder, a PEFT adapter folder, or the Hub id of an adapter.
        runs_dir: Where run ids are looked up; :func:`qa_lora.runs.default_runs_dir` if None.
        precision: "auto", "bf16" or "fp32"; that of the run, or auto, if None.

    Raises:
        RunError: If there is no such run, or it has no adapter yet.
        ModelError: If the adapter is not safe to read, does not fit its base, or changes it.
    """
    found = locate(run, runs_dir)
    config = found.run.config() if found.run else TrainConfig()
    loaded = load_base(found.base, precision=precision or config.precision)
    return Answerer(
        attach_adapter(loaded.model, found.folder),
        load_adapter_tokenizer(found.folder, loaded.tokenizer),
        base_tokenizer=loaded.tokenizer,
        template=PromptTemplate.load(found.folder),
        max_source_tokens=config.max_source_tokens,
        settings=GenerationSettings(max_new_tokens=config.max_new_tokens),
        run=found.run,
    )
