"""Text to token ids: questions whole wherever they fit, and no text that steers the model.

Training, validation, answering and evaluation all make their prompts with :func:`fit_prompts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from qa_lora.prompts import PromptTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Asked", "Prompt", "encode_texts", "fit_prompts"]


class Asked(Protocol):
    """What a prompt is made of; every `QAExample` is one."""

    @property
    def question(self) -> str: ...
    @property
    def context(self) -> str: ...
    @property
    def history(self) -> Sequence[tuple[str, str]]: ...


@dataclass(frozen=True)
class Prompt:
    """What the encoder reads, and what was left out of it."""

    ids: list[int]
    """Ends in the end token."""
    notice: str = ""
    """What the reader should know, where something had to be left out."""


def fit_prompts(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    examples: Sequence[Asked],
    max_source_tokens: int,
) -> list[Prompt]:
    """Prompts of at most so many tokens, the question whole wherever it fits.

    What does not fit goes in this order: the oldest turns of the chat, each as a whole; the end of
    the context; and the end of the question only where it is too long by itself.

    Args:
        tokenizer: Of the model that reads them.
        template: How a question becomes a prompt.
        examples: Questions with their contexts and earlier turns.
        max_source_tokens: Longest prompt, its end token counted.
    """
    limit = max_source_tokens
    texts = [template.render(e.question, e.context, e.history) for e in examples]
    # One more than fits tells those that do not; they alone are looked at again.
    rows = encode_texts(tokenizer, texts, limit + 1)
    return [
        Prompt(ids) if len(ids) <= limit else _fit(tokenizer, template, example, limit)
        for ids, example in zip(rows, examples, strict=True)
    ]


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int | None
) -> list[list[int]]:
    """Token ids of texts, in which a control token stands at the end only.

    Text that looks like a control token, such as a literal ``</s>``, is taken as the text it is.
    A tokenizer whose vocabulary cannot but read it as control gets it with a space in it.

    Args:
        tokenizer: That of the model.
        texts: Any texts. Halves of characters, which no tokenizer takes, become U+FFFD; so do the
            private characters that stand for white space inside a tokenizer with tokens for it.
        limit: Longer rows lose their end, their end token kept; None for any length.
    """
    if not texts:
        return []
    way = _Way.of(tokenizer)
    plain = [_whole_characters(text).translate(way.marks) for text in texts]
    rows = way.ids(plain)
    for i, ids in enumerate(rows):
        if not way.controls.isdisjoint(ids[way.before : len(ids) - way.after]):
            (broken,) = way.ids([_broken(tokenizer, plain[i])])
            end = len(broken) - way.after
            rows[i] = ids = [
                token
                for place, token in enumerate(broken)
                if not way.before <= place < end or token not in way.controls
            ]
        if limit is not None and len(ids) > limit:
            rows[i] = ids[: limit - way.after] + ids[len(ids) - way.after :]
    return rows


@dataclass(frozen=True)
class _Way:
    """How a tokenizer makes ids of plain text; kept for each tokenizer."""

    ids: Callable[[Sequence[str]], list[list[int]]]
    controls: frozenset[int]
    """Ids that no text may give; the unknown token stands for a character, and steers nothing."""
    before: int
    """Control tokens that the tokenizer puts before a text."""
    after: int
    """And behind it."""
    marks: dict[int, str]
    """What stands in for characters that mean something inside the tokenizer alone."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> _Way:
        if tokenizer not in _WAYS:
            from qa_lora.whitespace import MARKS, new_ids

            bare = tokenizer("a", add_special_tokens=False)["input_ids"]
            framed = tokenizer("a")["input_ids"]
            before = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
            after = len(framed) - before - len(bare)
            controls = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
            marks = dict.fromkeys(map(ord, MARKS), "\ufffd") if new_ids(tokenizer) else {}
            _WAYS[tokenizer] = cls(_encoder(tokenizer), controls, before, after, marks)
        return _WAYS[tokenizer]


_WAYS: WeakKeyDictionary[Any, _Way] = WeakKeyDictionary()


def _encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[str]], list[list[int]]]:
    """What gives the ids of texts, nothing cut, in which control tokens are read as text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return lambda texts: list(tokenizer(list(texts), split_special_tokens=True)["input_ids"])
    # A copy without the limits that other calls set: threads may share it. What a call of the
    # tokenizer itself finds out beside the ids, such as places in the text, takes as long again.
    backend = deepcopy(backend)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return lambda texts: [row.ids for row in backend.encode_batch_fast(texts)]


def _broken(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a space in everything that its tokenizer takes for a control token.

    Unigram vocabularies, as T5's, hold control tokens as pieces, and find them in what their
    normaliser makes of the text: full-width brackets become plain ones.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normaliser = getattr(backend, "normalizer", None)
    if normaliser is not None:
        text = normaliser.normalize_str(text)
    tokens = sorted(filter(None, tokenizer.all_special_tokens), key=len, reverse=True)
    control = re.compile("|".join(map(re.escape, tokens)))
    while control.search(text):
        text, before = control.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", text), text
        if len(text) > 4 * len(before) + 64:  # a control token that is in its own pieces
            break
    return text


def _whole_characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _fit(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, asked: Asked, limit: int
) -> Prompt:
    """One prompt that is too long, made to fit."""

    def fits(text: str) -> list[int] | None:
        ids = encode_texts(tokenizer, [text], limit + 1)[0]
        return ids if len(ids) <= limit else None

    turns = list(asked.history)
    fewest, most = 1, len(turns)  # turns to leave out
    kept: list[int] | None = None
    while fewest <= most:
        middle = (fewest + most) // 2
        ids = fits(template.render(asked.question, asked.context, turns[middle:]))
        if ids is None:
            fewest = middle + 1
        else:
            kept, most = ids, middle - 1
    if kept is not None:
        return Prompt(kept, _left_out(fewest, len(turns)))

    notices = [_left_out(len(turns), len(turns))] if turns else []
    question = template.render(asked.question)
    if asked.context:
        label, _, tail = template.context_prompt.rpartition("{context}")
        room = fits(question + label + tail)
        if room is not None and len(room) < limit:
            head = template.render(asked.question, asked.context).removesuffix(tail)
            notices.append("The end of the context was left out, for it was too long.")
            return Prompt(_cut(tokenizer, head, tail, limit), " ".join(notices))
        notices.append("The context was left out, for there was no room for it.")
    ids = fits(question)
    if ids is not None:
        return Prompt(ids, " ".join(notices))
    tail = template.prompt.rpartition("{question}")[2]
    notices.append(f"The question was too long and was cut to {limit} tokens.")
    return Prompt(_cut(tokenizer, question.removesuffix(tail), tail, limit), " ".join(notices))


def _cut(tokenizer: PreTrainedTokenizerBase, head: str, tail: str, limit: int) -> list[int]:
    """Ids of both, the head without its end."""
    (after,) = encode_texts(tokenizer, [tail], None) if tail else [[]]
    if not 0 < len(after) < limit - 1:
        return encode_texts(tokenizer, [head], limit)[0]
    way = _Way.of(tokenizer)
    before = encode_texts(tokenizer, [head], limit - len(after) + way.before + way.after)[0]
    return before[: len(before) - way.after] + after[way.before :]


def _left_out(turns: int, of: int) -> str:
    which = "All earlier turns" if turns == of else f"The oldest {turns} of {of} earlier turns"
    return f"{which} were left out, for they were too long."
