"""Ask a run: base and fine-tuned answers from one base model in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from qa_lora import runs
from qa_lora.adapters import attach_adapter
from qa_lora.answering.one_model import Adapter, FileKey, OneModel, Who, file_key
from qa_lora.answering.together import Together, answer_one, answer_rows
from qa_lora.checksums import digest_of
from qa_lora.config import TrainConfig
from qa_lora.data.example import QAExample
from qa_lora.encoding import Prompt
from qa_lora.errors import ConfigError, ModelError, QALoRAError
from qa_lora.generation import Answer, GenerationSettings, generate_batch
from qa_lora.locate import Located, locate
from qa_lora.models import load_adapter_tokenizer, load_base
from qa_lora.prompts import PromptTemplate, is_blank

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "BASE",
    "TUNED",
    "Answer",
    "Answerer",
    "Comparison",
    "GenerationSettings",
    "Together",
    "generate_batch",
    "load",
]

BASE, TUNED = "base", "tuned"

Turns: TypeAlias = Sequence[tuple[str, str]]
"""Earlier turns of a chat as (question, answer), oldest first."""


@dataclass(frozen=True)
class Comparison:
    """Both answers to one question, complete or so far."""

    base: Answer
    tuned: Answer
    done: bool


class Answerer:
    """A base model and adapters on it; safe to use from several threads, one at a time.

    A "system" is who answers: "base" is the untouched base model, "tuned" the adapter it was made
    with, and any further one has the name it was added under. All share one copy of the base.

    Args:
        model: The base with its adapter, named "default".
        tokenizer: That of the training.
        template: How a question becomes a prompt; the one of the training.
        max_source_tokens: Longer prompts are made to fit.
        settings: How answers are generated unless a call says otherwise.
        run: The run it belongs to, if it does to one.
        base_tokenizer: That of the base, where the training added tokens to it. The base never
            sees them: it reads and writes what it would without the adapter.
        key: Which file the adapter is from, so that it is not loaded twice.
        commit: The state of a base of the Hub, if that is known.
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
        key: FileKey | None = None,
        commit: str | None = None,
    ) -> None:
        one = OneModel(model, base_tokenizer or tokenizer, commit)
        tuned = one.adopt("default", tokenizer, template, max_source_tokens, run=run, key=key)
        self._set_up(one, tuned, settings)

    def _set_up(self, one: OneModel, tuned: Adapter, settings: GenerationSettings | None) -> None:
        self.settings = settings or GenerationSettings()
        self._one = one
        self._lock = one.lock
        self._adapters = {TUNED: tuned}

    @property
    def model(self) -> PeftModel:
        """The one model with all adapters on it."""
        return self._one.model

    @property
    def base(self) -> str:
        """Name of the base model: "pocket", a folder or a Hub id."""
        return self._one.base

    @property
    def commit(self) -> str | None:
        """The state of a base of the Hub; None if it is another base, or that is not known."""
        return self._one.commit

    @property
    def base_tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's own tokenizer."""
        return self._one.base_tokenizer

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """That of the tuned system."""
        return self._tuned.tokenizer

    @property
    def template(self) -> PromptTemplate:
        """How a question becomes a prompt of base and tuned."""
        return self._tuned.template

    @property
    def max_source_tokens(self) -> int:
        """Longest prompt of base and tuned."""
        return self._tuned.max_source_tokens

    @property
    def run(self) -> runs.Run | None:
        """The run that the tuned system belongs to, if it does to one."""
        return self._tuned.run

    @property
    def systems(self) -> tuple[str, ...]:
        """Who can answer: "base", "tuned", and the names of further adapters."""
        return (BASE, *self._adapters)

    def run_of(self, system: str) -> runs.Run | None:
        """The run that a system belongs to; None for the base and for adapters of no run.

        Raises:
            ConfigError: If there is no such system.
        """
        who = self._who(system)
        return None if who is None else who.run

    def digest_of(self, system: str) -> str:
        """The SHA-256 of the file that an adapter's weights are from.

        Returns:
            An empty text for the base, for weights of no file, and if the file has changed since.

        Raises:
            ConfigError: If there is no such system.
        """
        who = self._who(system)
        if who is None or who.key is None:
            return ""
        path = who.key[0]
        try:
            digest = digest_of(path)
        except OSError:
            return ""
        return digest if file_key(path.parent) == who.key else ""

    def add(
        self,
        run_or_folder: str | Path | runs.Run,
        *,
        runs_dir: str | Path | None = None,
        name: str | None = None,
    ) -> str:
        """Load another adapter of the same base onto the model in memory.

        Args:
            run_or_folder: A run's id or folder, a PEFT adapter folder, or the Hub id of an adapter.
            runs_dir: Where run ids are looked up.
            name: Of the new system; the run's id, the folder's name or the Hub id if None.

        Returns:
            The name.

        Raises:
            ConfigError: If the name is taken or blank.
            RunError: If there is no such run, or it has no adapter yet.
            ModelError: If the adapter is of another base or kind, damaged, or not safe to read.
                Whatever is wrong, the model stays as it was.
        """
        found = locate(run_or_folder, runs_dir)
        if name is None:
            name = _name_of(found, run_or_folder)
        if not name.strip():
            raise ConfigError("The name of a system must not be blank.")
        with self._lock:
            if name in self.systems:
                raise ConfigError(
                    f"There is a system named {name} already.", "Give the adapter another name."
                )
            self._adapters[name] = self._one.put_on(found)
        return name

    def remove(self, name: str) -> None:
        """Take a further adapter off the model and free its memory.

        Raises:
            ConfigError: If there is no such system, or it is "base" or "tuned", which stay.
        """
        if name in (BASE, TUNED):
            raise ConfigError(f"The system {name} cannot be removed.")
        with self._lock:
            adapter = self._who(name)
            assert adapter is not None
            del self._adapters[name]
            self._one.take_off(adapter)

    def sharing(
        self, run_or_folder: str | Path | runs.Run, *, runs_dir: str | Path | None = None
    ) -> Answerer:
        """An answerer of another run that shares this one's base model, and takes turns with it.

        Raises:
            QALoRAError: As :meth:`add`.
        """
        found = locate(run_or_folder, runs_dir)
        config = found.run.config() if found.run else TrainConfig()
        with self._lock:
            tuned = self._one.put_on(found)
        other = object.__new__(Answerer)
        other._set_up(self._one, tuned, GenerationSettings(max_new_tokens=config.max_new_tokens))
        return other

    def close(self) -> None:
        """Free the adapters that no other answerer of the same base uses. No use of it after that.

        The last adapter stays with the model.
        """
        with self._lock:
            while self._adapters:
                _, adapter = self._adapters.popitem()
                self._one.take_off(adapter)

    @contextmanager
    def acting(self, system: str) -> Iterator[PeftModel]:
        """Hold the model; meanwhile it is the base with this system's adapter, or the mere base.

        Raises:
            ConfigError: If there is no such system.
        """
        with self._lock, self._one.acting(self._who(system)) as model:
            yield model

    def tokenizer_of(self, system: str) -> PreTrainedTokenizerBase:
        """By which a system reads and writes.

        Raises:
            ConfigError: If there is no such system.
        """
        who = self._who(system)
        return self.base_tokenizer if who is None else who.tokenizer

    def prompts(
        self,
        examples: Sequence[QAExample],
        system: str,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> list[Prompt]:
        """What a system reads for each question.

        The base reads what the tuned system reads, by its own tokenizer.

        Args:
            examples: The questions.
            system: Who reads them.
            tokenizer: Another one than the system's own.

        Raises:
            ConfigError: If there is no such system.
        """
        who = self._who(system)
        return self._fit(examples, who) if tokenizer is None else self._as(who, examples, tokenizer)

    def answer(
        self,
        question: str,
        context: str = "",
        *,
        history: Turns = (),
        variant: str = TUNED,
        settings: GenerationSettings | None = None,
    ) -> Answer:
        """Answer a question.

        Args:
            question: The question.
            context: A passage to read, or nothing.
            history: Earlier turns as (question, answer), oldest first.
            variant: Which system answers: "base" is the untouched base model.
            settings: How; the run's own settings if None.

        Raises:
            ConfigError: If there is no such system.
            QALoRAError: If the question is blank, or the memory does not suffice.
        """
        last = Answer("")
        for step in self._ask(question, context, history, [variant], settings):
            last = step.answers[variant]
        return last

    def stream(
        self,
        question: str,
        context: str = "",
        *,
        history: Turns = (),
        variant: str = TUNED,
        settings: GenerationSettings | None = None,
    ) -> Iterator[str]:
        """Like :meth:`answer`, piece by piece; the pieces joined are the answer's text.

        Closing the iterator ends the generation.
        """
        shown = ""
        for step in self._ask(question, context, history, [variant], settings):
            answer = step.answers[variant]
            if len(answer.text) > len(shown) and answer.text.startswith(shown):
                yield answer.text[len(shown) :]
                shown = answer.text

    def compare(
        self,
        question: str,
        context: str = "",
        *,
        history: Turns = (),
        settings: GenerationSettings | None = None,
    ) -> Iterator[Comparison]:
        """The answers of base and tuned while they grow; see :meth:`answer_together`."""
        for step in self._ask(question, context, history, [BASE, TUNED], settings):
            yield Comparison(step.answers[BASE], step.answers[TUNED], step.done)

    def answer_together(
        self,
        question: str,
        context: str = "",
        *,
        history: Turns | Mapping[str, Turns] = (),
        systems: Sequence[str] | None = None,
        settings: GenerationSettings | None = None,
    ) -> Iterator[Together]:
        """The answers of several systems while they grow; the last item is `done`.

        They are rows of one batch where peft can mix them. Adapters that cannot share a batch
        (DoRA, trained embedding rows, whole trained modules) answer behind the others, one by one.
        Each adapter's prompt is made by its own template and tokenizer, and the base's by the
        template of the tuned system.

        The same question, settings and systems give the same answers on a device, also with
        sampling: the seed and the prompt decide what is drawn.

        Closing the iterator ends the generation within a token and frees the model, also while
        another caller is waited for.

        Args:
            question: The question. Control characters in it stay: a tokenizer drops them or takes
                them as text, as it did in training. Too long a question is cut, with a notice.
            context: A passage to read, or nothing.
            history: Earlier turns of all systems, or of each by its name, where each has a chat of
                its own; a system without a name there has none.
            systems: Who answers, in this order; all if None.
            settings: How; the run's own settings if None.

        Raises:
            ConfigError: If there is no such system, or none is asked.
            QALoRAError: If the question is blank, or the memory does not suffice.
        """
        yield from self._ask(
            question, context, history, self.systems if systems is None else systems, settings
        )

    def answer_many(
        self,
        examples: Sequence[QAExample],
        *,
        systems: Sequence[str] | None = None,
        settings: GenerationSettings | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        batch_tokens: int | None = None,
    ) -> Iterator[tuple[int, dict[str, Answer]]]:
        """The answers of several systems to many questions, in groups of prompts of like length.

        Args:
            examples: The questions; their own answers are not looked at.
            systems: Who answers; all if None.
            settings: How; the run's own settings if None.
            should_stop: Asked every few tokens; when true, no more questions are begun.
            batch_tokens: Prompt and answer tokens in one batch, so that memory stays bounded; by
                model and device if None.

        Yields:
            The example's index and the systems' answers; longest prompts first.

        Raises:
            ConfigError: If there is no such system, or none is asked.
            ModelError: If the memory does not suffice.
        """
        whos = self._whos(self.systems if systems is None else systems)
        if not examples:
            return
        with self._lock:
            rows = list(zip(*(self._fit(examples, who) for who in whos.values()), strict=True))
        yield from answer_rows(
            self._one,
            whos,
            rows,
            settings or self.settings,
            should_stop=should_stop,
            batch_tokens=batch_tokens,
        )

    def _ask(
        self,
        question: str,
        context: str,
        history: Turns | Mapping[str, Turns],
        systems: Sequence[str],
        settings: GenerationSettings | None,
    ) -> Iterator[Together]:
        if is_blank(question):
            raise QALoRAError("There is no question.", "Write one to get an answer.")
        whos = self._whos(systems)
        asked = {
            name: QAExample("", question, "", context, tuple(_turns(history, name)))
            for name in whos
        }

        def make_prompts() -> list[Prompt]:
            return [self._fit([asked[name]], who)[0] for name, who in whos.items()]

        return answer_one(self._one, whos, make_prompts, settings or self.settings)

    @property
    def _tuned(self) -> Adapter:
        tuned = self._adapters.get(TUNED)
        if tuned is None:
            raise ModelError("The model was closed meanwhile.", "Load it again.")
        return tuned

    def _who(self, system: str) -> Who:
        tuned = self._tuned
        if system in (BASE, TUNED):
            return None if system == BASE else tuned
        found = self._adapters.get(system)
        if found is None:
            raise ConfigError(
                f"There is no system named {system}.",
                f"The systems are {', '.join(self.systems)}.",
            )
        return found

    def _whos(self, systems: Sequence[str]) -> dict[str, Who]:
        if not systems:
            raise ConfigError("No system is asked.", f"Name some of {', '.join(self.systems)}.")
        return {name: self._who(name) for name in systems}

    def _fit(self, examples: Sequence[QAExample], who: Who) -> list[Prompt]:
        """The prompts as training made them; for the base as they would be without an adapter."""
        return self._as(who, examples, self.base_tokenizer if who is None else who.tokenizer)

    def _as(
        self, who: Who, examples: Sequence[QAExample], tokenizer: PreTrainedTokenizerBase
    ) -> list[Prompt]:
        return (who or self._tuned).prompts(examples, tokenizer)


def _name_of(found: Located, asked_for: str | Path | runs.Run) -> str:
    """The run's id; of an adapter of no run its folder's name, or its Hub id."""
    if found.run is not None:
        return found.run.id
    here = isinstance(asked_for, runs.Run) or Path(asked_for).expanduser().is_dir()
    return found.folder.resolve().name if here else str(asked_for)


def _turns(history: Turns | Mapping[str, Turns], system: str) -> Turns:
    return history.get(system, ()) if isinstance(history, Mapping) else history


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
    loaded = load_base(found.base, precision=precision or config.precision, commit=found.commit)
    return Answerer(
        attach_adapter(loaded.model, found.folder),
        load_adapter_tokenizer(found.folder, loaded.tokenizer),
        base_tokenizer=loaded.tokenizer,
        template=PromptTemplate.load(found.folder),
        max_source_tokens=config.max_source_tokens,
        settings=GenerationSettings(max_new_tokens=config.max_new_tokens),
        run=found.run,
        key=file_key(found.folder),
        commit=loaded.commit,
    )
