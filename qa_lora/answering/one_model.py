"""One base model in memory with any number of adapters on it, and who of them answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from peft import LoraConfig, PeftModel, PeftModelForSeq2SeqLM
from peft.utils import AuxiliaryTrainingWrapper

from qa_lora import runs
from qa_lora.adapters import ADAPTER_WEIGHTS, add_adapter, remove_adapter
from qa_lora.answering.fair_lock import FairLock
from qa_lora.base_names import same_base, same_state
from qa_lora.config import TrainConfig
from qa_lora.encoding import Asked, Prompt, fit_prompts
from qa_lora.errors import ModelError
from qa_lora.generation import Answer, GenerationSettings, Watch, generate_batch
from qa_lora.locate import Located
from qa_lora.models import load_adapter_tokenizer
from qa_lora.prompts import PromptTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Adapter", "FileKey", "OneModel", "Who", "file_key"]

BASE_ROWS = "__base__"
"""What peft calls rows of a mixed batch that no adapter touches."""

ALONE = (
    "use_dora",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "arrow_config",
    "use_bdlora",
    "monteclora_config",
    "velora_config",
)
"""What an adapter may have with which peft cannot run it beside others in one batch."""

FileKey: TypeAlias = tuple[Path, int]


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter on the model, and how its prompts are made."""

    slot: str
    """What peft calls it."""
    tokenizer: PreTrainedTokenizerBase
    template: PromptTemplate
    max_source_tokens: int
    mixes: bool
    """Whether its rows can share a batch with those of others."""
    run: runs.Run | None = None
    key: FileKey | None = None
    """Which file its weights are from, if from one."""

    def prompts(
        self, examples: Sequence[Asked], tokenizer: PreTrainedTokenizerBase
    ) -> list[Prompt]:
        """Prompts as its training made them."""
        return fit_prompts(tokenizer, self.template, examples, self.max_source_tokens)


Who: TypeAlias = Adapter | None
"""Who answers; None is the untouched base."""


class OneModel:
    """A base model, the adapters on it, and the lock that whoever uses them holds.

    Args:
        model: The base with one adapter.
        base_tokenizer: The base's own.
        commit: The state of a base of the Hub, if that is known.
    """

    def __init__(
        self,
        model: PeftModel,
        base_tokenizer: PreTrainedTokenizerBase,
        commit: str | None = None,
    ) -> None:
        self.model = model.eval()
        self.base_tokenizer = base_tokenizer
        self.commit = commit
        self.lock = FairLock()
        self._users: dict[Adapter, int] = {}
        self._numbers = itertools.count()
        """Of slots. None comes again, or who still has an adapter that was removed would be
        answered by another one."""

    @property
    def base(self) -> str:
        """Name of the base model."""
        return str(self.model.get_base_model().name_or_path)

    def adopt(
        self,
        slot: str,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate,
        max_source_tokens: int,
        *,
        run: runs.Run | None = None,
        key: FileKey | None = None,
    ) -> Adapter:
        """Count an adapter that is on the model among those that answer."""
        mixes = _mixes(self.model, slot)
        adapter = Adapter(slot, tokenizer, template, max_source_tokens, mixes, run, key)
        self._users[adapter] = 1
        return adapter

    def put_on(self, found: Located) -> Adapter:
        """Load an adapter beside the others; one that is there already is shared. Hold the lock.

        Raises:
            ModelError: If it belongs on another base, or is damaged or not safe to read. The model
                is then as it was.
        """
        if not same_base(found.base, self.base):
            raise ModelError(
                f"The adapter in {found.folder} belongs on {found.base}, but the model in memory "
                f"is {self.base}.",
                "Only adapters of one base model can answer together.",
            )
        if not same_state(found.commit, self.commit):
            raise ModelError(
                f"The adapter in {found.folder} was trained on the commit {_short(found.commit)} "
                f"of {found.base}, but the model in memory is its commit {_short(self.commit)}.",
                "Only adapters of one state of a base model can answer together.",
            )
        key = file_key(found.folder)
        for adapter in self._users:
            if key is not None and adapter.key == key:
                self._users[adapter] += 1
                return adapter
        config = found.run.config() if found.run else TrainConfig()
        tokenizer = load_adapter_tokenizer(found.folder, self.base_tokenizer)
        template = PromptTemplate.load(found.folder)
        slot = next(
            name for n in self._numbers if (name := f"more{n:03}") not in self.model.peft_config
        )
        add_adapter(self.model, found.folder, slot)
        return self.adopt(
            slot, tokenizer, template, config.max_source_tokens, run=found.run, key=key
        )

    def take_off(self, adapter: Adapter) -> None:
        """Free an adapter's memory when its last user is gone. Hold the lock."""
        self._users[adapter] -= 1
        if not self._users[adapter] and len(self.model.peft_config) > 1:
            del self._users[adapter]
            remove_adapter(self.model, adapter.slot)

    @contextmanager
    def acting(self, who: Who) -> Iterator[PeftModel]:
        """Meanwhile the model is the base with this adapter, or the untouched base."""
        if who is None:
            with self.model.disable_adapter():
                yield self.model
            return
        if who.slot not in self.model.peft_config:
            raise ModelError("The adapter was removed from the model meanwhile.", "Load it again.")
        if self.model.active_adapter != who.slot:
            self.model.set_adapter(who.slot, inference_mode=True)
        yield self.model

    def generate(
        self,
        prompts: Sequence[Prompt],
        whos: Sequence[Who],
        settings: GenerationSettings,
        watch: Watch | None = None,
    ) -> list[Answer]:
        """Answer each prompt by whom it is for: in one batch all that can share one, then the rest.

        Args:
            prompts: B prompts.
            whos: B of them, likewise.
            settings: How answers are generated.
            watch: Called after every token with all B answers so far; see
                :func:`qa_lora.generation.generate_batch`.
        """
        answers = [Answer("", notice=prompt.notice) for prompt in prompts]
        going = True

        def watch_rows(rows: list[int], part: list[Answer]) -> bool:
            nonlocal going
            assert watch is not None
            fresh = dict(zip(rows, part, strict=True)) if part else {}
            shown = [fresh.get(i, answer) for i, answer in enumerate(answers)]
            going = watch(shown if part else [])
            return going

        for rows in _passes(whos):
            if not going:
                break
            row_names = [BASE_ROWS if (who := whos[i]) is None else who.slot for i in rows]
            lead = next((who for i in rows if (who := whos[i]) is not None), None)
            mixed = lead is not None and lead.mixes
            with self.acting(lead), _wrappers_off(self.model, off=mixed):
                done = generate_batch(
                    self.model,
                    lead.tokenizer if lead is not None else self.base_tokenizer,
                    [prompts[i] for i in rows],
                    adapter_names=row_names if mixed else None,
                    watch=None if watch is None else partial(watch_rows, rows),
                    **asdict(settings),
                )
            for i, answer in zip(rows, done, strict=True):
                answers[i] = answer
        return answers


def file_key(folder: Path) -> FileKey | None:
    """Which weights a folder holds now."""
    path = (folder / ADAPTER_WEIGHTS).resolve()
    try:
        return path, path.stat().st_mtime_ns
    except OSError:
        return None


def _short(commit: str | None) -> str:
    return (commit or "")[:8]


def _passes(whos: Sequence[Who]) -> list[list[int]]:
    """Rows that go through the model together; first those of the base and all that mix."""
    together = [i for i, who in enumerate(whos) if who is None or who.mixes]
    passes = [together] if together else []
    alone = dict.fromkeys(who for who in whos if who is not None and not who.mixes)
    return passes + [[i for i, other in enumerate(whos) if other is who] for who in alone]


def _mixes(model: PeftModel, slot: str) -> bool:
    """Whether peft can run rows of this adapter and of the base in one batch of this model."""
    config = model.peft_config[slot]
    return (
        isinstance(model, PeftModelForSeq2SeqLM)
        and isinstance(config, LoraConfig)
        and not any(getattr(config, name, None) for name in ALONE)
    )


@contextmanager
def _wrappers_off(model: PeftModel, *, off: bool) -> Iterator[None]:
    """Meanwhile no embedding rows and no whole modules of adapters stand in for the base's.

    In a mixed batch peft looks for them under the name of every adapter, also of one without any.
    """
    wrappers = [m for m in model.modules() if off and isinstance(m, AuxiliaryTrainingWrapper)]
    for wrapper in wrappers:
        wrapper.enable_adapters(False)
    try:
        yield
    finally:
        for wrapper in wrappers:
            wrapper.enable_adapters(True)
