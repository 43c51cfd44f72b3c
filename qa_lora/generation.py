"""Prompts to answers: one call of `generate` for a whole batch, watched while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from qa_lora.batching import EncodedExample, collate
from qa_lora.devices import is_out_of_memory
from qa_lora.encoding import Prompt
from qa_lora.errors import ConfigError, ModelError
from qa_lora.sampling import drawing, penalties
from qa_lora.token_rows import rows_in_place

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Answer", "GenerationSettings", "Stopped", "Watch", "end_ids", "generate_batch"]


LEAST = 0.001
"""Smaller divisors take scores past what a number format holds, and no token is left to draw."""


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are generated; greedy unless told otherwise.

    Raises:
        ConfigError: If a value is out of bounds.
    """

    max_new_tokens: int = 128
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    """Only with do_sample, as are top_k, top_p and seed."""
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    """0 for no such limit."""
    repetition_penalty: float = 1.0
    """Above 1 against tokens that the answer holds already, below 1 for them."""
    min_new_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "repetition_penalty"):
            try:  # transformers takes no whole numbers for these
                object.__setattr__(self, name, float(getattr(self, name)))
            except (TypeError, ValueError, OverflowError):
                raise ConfigError(
                    f"{name} must be a number (it is {getattr(self, name)!r})."
                ) from None
        most = self.max_new_tokens
        bounds = {
            "max_new_tokens": (1 <= most <= 8192, "between 1 and 8192"),
            "num_beams": (1 <= self.num_beams <= 64, "between 1 and 64"),
            "temperature": (LEAST <= self.temperature <= 100, f"between {LEAST} and 100"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "seed": (0 <= self.seed < 2**32, "between 0 and 4294967295"),
            "top_k": (0 <= self.top_k <= 1_000_000, "between 0, for no limit, and 1000000"),
            "repetition_penalty": (
                LEAST <= self.repetition_penalty <= 100,
                f"between {LEAST} and 100, with 1 for none",
            ),
            "min_new_tokens": (
                0 <= self.min_new_tokens <= most,
                f"between 0 and max_new_tokens, which is {most}",
            ),
        }
        for name, (good, wanted) in bounds.items():
            if not good:
                raise ConfigError(f"{name} must be {wanted} (it is {getattr(self, name)}).")


@dataclass(frozen=True)
class Answer:
    """What a model said to one prompt, or has said so far."""

    text: str
    tokens: int = 0
    """Generated tokens, the end token not counted."""
    seconds: float = 0.0
    """From the start of its batch to its last token if watched, else to the batch's end."""
    cut: bool = False
    """Whether it ended only because max_new_tokens was reached."""
    notice: str = ""
    """What the reader should know about it, such as a prompt that was too long."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Raised by a generation that was asked to stop."""


Watch = Callable[[list[Answer]], bool]
"""Gets the answers of a batch so far, after every token; says whether to go on."""


def generate_batch(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    num_beams: int = 1,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    top_k: int = 0,
    repetition_penalty: float = 1.0,
    min_new_tokens: int = 0,
    adapter_names: Sequence[str] | None = None,
    watch: Watch | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Answer]:
    """Answer a batch of prompts.

    Only what is asked for is done, whatever the model's own defaults are. The model may be in
    training mode; it is put back into it.

    With `do_sample` the seed and the prompt decide what is drawn, on one kind of device: the same
    question gets the same answer whatever else is in its batch, and so do a base and a tuned row
    that differ in nothing but an adapter that does nothing. (Sums of another batch shape may differ
    in their last bits, which can turn a draw that was as good as even.) Beams that are drawn share
    one stream of random numbers, so there the whole batch decides.

    Args:
        model: An encoder-decoder model, with or without an adapter.
        tokenizer: That which made the prompts.
        prompts: B prompts, whose notices become those of their answers.
        max_new_tokens: Longest answer.
        num_beams: Beam search if more than 1; it cannot be watched, only stopped.
        do_sample: Draw tokens instead of taking the likeliest.
        temperature: Of the drawing.
        top_p: Draw from the likeliest tokens with this much probability together.
        seed: Of the drawing; the caller's random numbers are not touched.
        top_k: Draw from so many likeliest tokens; from all if 0.
        repetition_penalty: What scores of tokens that the answer holds already are divided by, or
            multiplied with where they are negative. The padding that a decoder starts with does not
            count.
        min_new_tokens: Shortest answer, its end token not counted.
        adapter_names: For each prompt the adapter to use, "__base__" for none; the active adapter
            for all if None.
        watch: Called after every token; generation ends early when it returns False.
        should_stop: Asked after every token, at less cost than `watch`; there are no answers then.

    Returns:
        B answers, in the order of the prompts.

    Raises:
        ModelError: If the memory does not suffice for one prompt, or for all that are watched.
        Stopped: If `should_stop` said so.
    """
    if not prompts:
        return []
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "num_beams": num_beams,
        "do_sample": do_sample,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "top_k": top_k,
        "repetition_penalty": repetition_penalty,
        "min_new_tokens": min_new_tokens,
    }
    try:
        return _generate(model, tokenizer, prompts, adapter_names, watch, should_stop, **options)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(prompts) == 1 or watch is not None:
            raise ModelError(
                f"The memory does not suffice for {len(prompts)} answers at once.",
                "Use shorter answers, fewer beams or a smaller model.",
            ) from None
    # Outside the except block, where the error no longer holds on to what filled the memory.
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    answers: list[Answer] = []
    for half in (slice(len(prompts) // 2), slice(len(prompts) // 2, None)):
        names = None if adapter_names is None else adapter_names[half]
        answers += generate_batch(
            model,
            tokenizer,
            prompts[half],
            adapter_names=names,
            should_stop=should_stop,
            **options,
        )
    return answers


def _generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    adapter_names: Sequence[str] | None,
    watch: Watch | None,
    should_stop: Callable[[], bool] | None,
    *,
    max_new_tokens: int,
    num_beams: int,
    do_sample: bool,
    temperature: float,
    top_p: float,
    seed: int,
    top_k: int,
    repetition_penalty: float,
    min_new_tokens: int,
) -> list[Answer]:
    """One call of `generate`; see :func:`generate_batch`."""
    started = time.perf_counter()
    pad_id = tokenizer.pad_token_id
    inputs = collate([EncodedExample(prompt.ids, []) for prompt in prompts], pad_id).to(
        model.device
    )
    notices = [prompt.notice for prompt in prompts]
    ends = end_ids(model, tokenizer)
    reader = _Reader(tokenizer, notices, ends, max_new_tokens, started)
    processors = penalties(repetition_penalty)
    draws_beams = do_sample and num_beams > 1
    if do_sample and not draws_beams:
        rows = [prompt.ids for prompt in prompts]
        processors += drawing(
            rows, model.device, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
        )
    options: dict[str, Any] = {}
    if processors:
        options["logits_processor"] = processors
    if adapter_names is not None:
        options["adapter_names"] = list(adapter_names)
    criteria: list[StoppingCriteria] = []
    if watch is not None:
        criteria.append(_Watcher(reader, watch, silent=num_beams > 1))
    if should_stop is not None:
        criteria.append(_Stopper(should_stop))
    if criteria:
        options["stopping_criteria"] = StoppingCriteriaList(criteria)
    # After what may have turned the adapter off, so that the base's rows stay its own.
    with (
        _evaluating(model),
        rows_in_place(model),
        _seeded(seed if draws_beams else None, model.device),
        _no_hooks_left(model),
    ):
        ids = model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=max_new_tokens,
            max_length=None,
            min_length=0,
            min_new_tokens=min_new_tokens or None,
            num_beams=num_beams,
            do_sample=draws_beams,
            temperature=temperature if draws_beams else 1.0,
            top_p=top_p if draws_beams else 1.0,
            top_k=top_k if draws_beams else 50,  # 50 is the library's "not set"
            repetition_penalty=1.0,  # among the processors
            no_repeat_ngram_size=0,
            length_penalty=1.0,
            num_return_sequences=1,
            pad_token_id=pad_id,
            eos_token_id=sorted(ends) or None,
            use_cache=True,
            return_dict_in_generate=False,
            **options,
        )
    return reader.read(ids, final=True)


class _Reader:
    """Turns the ids of a batch into its answers, again and again while it grows."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        notices: Sequence[str],
        end_ids: frozenset[int],
        max_new_tokens: int,
        started: float,
    ) -> None:
        self._tokenizer = tokenizer
        self._notices = notices
        self._end_ids = end_ids
        self._max_new_tokens = max_new_tokens
        self._started = started
        self._ended_after: dict[int, float] = {}
        """Seconds after which a row was seen to be complete."""

    def read(self, ids: torch.Tensor, *, final: bool) -> list[Answer]:
        """Answers from ids (B, 1 + T), the first of which is the decoder's start token."""
        seconds = time.perf_counter() - self._started
        kept, lengths = [], []
        for row, new in enumerate(ids[:, 1:].tolist()):
            end = next((i for i, token in enumerate(new) if token in self._end_ids), None)
            if end is not None or len(new) >= self._max_new_tokens:
                self._ended_after.setdefault(row, seconds)
            kept.append(new[:end])
            lengths.append((len(new[:end]), end is None and len(new) >= self._max_new_tokens))
        texts = self._tokenizer.batch_decode(
            kept, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        if not final:
            # The bytes of one character may come in several tokens.
            texts = [text.rstrip("\ufffd") for text in texts]
        return [
            Answer(text.strip(), tokens, self._ended_after.get(row, seconds), cut, notice)
            for row, (text, (tokens, cut), notice) in enumerate(
                zip(texts, lengths, self._notices, strict=True)
            )
        ]


class _Watcher(StoppingCriteria):
    """Shows every step to a watch, and stops all rows when it asks for it.

    A stopping criterion rather than a streamer: it sees all ids of all rows, and it can stop.
    """

    def __init__(self, reader: _Reader, watch: Watch, *, silent: bool) -> None:
        self._reader = reader
        self._watch = watch
        self._silent = silent

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Whether each row is to stop, (B,); with beams the rows are not answers yet."""
        answers = [] if self._silent else self._reader.read(input_ids, final=False)
        stop = not self._watch(answers)
        return torch.full((len(input_ids),), stop, dtype=torch.bool, device=input_ids.device)


class _Stopper(StoppingCriteria):
    """Leaves `generate` when asked to, by way of an exception."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """No row is to stop, (B,)."""
        if self._should_stop():
            raise Stopped
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end an answer: the tokenizer's, and those the model's own settings name."""
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, (list, tuple)) else [configured]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """No dropout meanwhile; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _no_hooks_left(model: torch.nn.Module) -> Iterator[None]:
    """Whatever happens meanwhile, no module keeps a hook that it did not have.

    peft hooks a mixed batch's rows to its layers, and leaves the hooks there when an error ends the
    call: later batches would be answered by whom that one was for.
    """
    hooks = [(m._forward_pre_hooks, list(m._forward_pre_hooks)) for m in model.modules()]  # noqa: SLF001
    try:
        yield
    finally:
        for own, before in hooks:
            for left in own.keys() - set(before):
                del own[left]


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """A fixed state of the random numbers meanwhile, the caller's afterwards."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
