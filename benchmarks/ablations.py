"""What each idea of the training step is worth, alone: the step with it beside the step without.

    python benchmarks/ablations.py [--shape flan-t5-small] [--rounds 5]

All variants compute loss and gradients of the same rows, in turn, round by round, so that a machine
that slows down slows them all. The first part starts from transformers' and peft's own forward and
backward pass; the second takes one idea after the other out of this project's. Figures are medians
of real tokens a second and the ratio to the first row of their part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from throughput.loops import peft_model
from throughput.workload import SHAPES, Workload, load_rows, make_model, make_rows
from torch.nn import functional as F

from qa_lora.adapters import training_mode
from qa_lora.batching import IGNORED, collate
from qa_lora.optimizer_step import micro_batches
from qa_lora.packed import PackedModel, attention, layers, linear, loss

ROOT = Path(__file__).resolve().parent.parent
ROWS = 16
Variant = Callable[[], None]


def plain_variants(model: Any, rows: list[Any]) -> dict[str, Variant]:
    """Transformers' and peft's own passes, better step by step."""

    def step(*, base_dropout: bool, real_only: bool, sort: bool, dtype: Any = None) -> None:
        training_mode(model, base_dropout=base_dropout)
        ordered = sorted(rows, key=lambda row: row.tokens) if sort else rows
        for first in range(0, len(ordered), 8):
            batch = collate(ordered[first : first + 8], 0)
            decoder = model.get_base_model().prepare_decoder_input_ids_from_labels(
                labels=batch.labels
            )
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                logits = model(
                    input_ids=batch.input_ids,
                    attention_mask=batch.attention_mask,
                    decoder_input_ids=decoder,
                    use_cache=False,
                ).logits
            real = batch.labels != IGNORED if real_only else slice(None)
            nll: Any = F.cross_entropy(
                logits[real].reshape(-1, logits.shape[-1]).float(), batch.labels[real].reshape(-1)
            )
            nll.backward()
        model.zero_grad()

    return {
        "plain: base dropout, all logits": lambda: step(
            base_dropout=True, real_only=False, sort=False
        ),
        "  rows of like length together": lambda: step(
            base_dropout=True, real_only=False, sort=True
        ),
        "  base dropout off": lambda: step(base_dropout=False, real_only=False, sort=False),
        "  loss of real tokens only": lambda: step(base_dropout=True, real_only=True, sort=False),
        "  bf16 autocast": lambda: step(
            base_dropout=True, real_only=False, sort=False, dtype=torch.bfloat16
        ),
        "  all but bf16": lambda: step(base_dropout=False, real_only=True, sort=True),
    }


def packed_variants(model: Any, rows: list[Any]) -> dict[str, Variant]:
    """This project's passes, with one idea after the other taken out."""

    def step(built: PackedModel, budget: int) -> None:
        for part in micro_batches(rows, len(rows), budget):
            built.loss_and_gradients(part, scale=1e-3)
        model.zero_grad()

    whole = PackedModel(model)
    with mock.patch.object(layers, "AdaptedLinear", _Apart):
        apart = PackedModel(model)

    def without(target: Any, name: str, value: Any) -> Variant:
        def run() -> None:
            with mock.patch.object(target, name, value):
                step(whole, 2048)

        return run

    return {
        "packed, 2,048 tokens at once": lambda: step(whole, 2048),
        "  512 tokens at once": lambda: step(whole, 512),
        "  1,024 tokens at once": lambda: step(whole, 1024),
        "  8,192 tokens at once": lambda: step(whole, 8192),
        "  q, k, v (and wi) not joined": lambda: step(apart, 2048),
        "  masks by bernoulli_": without(linear, "keep_mask", _bernoulli),
        "  no adapter dropout at all": without(linear.AdaptedLinear, "forward", _undropped),
        "  logits of all tokens at once": without(loss, "CPU_TOKENS", 1 << 30),
        "  gradients below the first adapter": without(
            linear.AdaptedLinear, "backward", _always_down
        ),
        "  one padded group for attention": without(attention, "CALL_COST", 1 << 60),
        "  each row's attention by itself": without(attention, "CALL_COST", 0),
        "  one thread": _one_thread(lambda: step(whole, 2048)),
    }


class _Apart:
    """Joined layers, computed one by one."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = [linear.AdaptedLinear([part]) for part in parts]
        self.trained = any(part.trained for part in self.parts)

    def forward(self, x: torch.Tensor, *, training: bool) -> tuple[torch.Tensor, Any]:
        done = [part.forward(x, training=training) for part in self.parts]
        return torch.cat([y for y, _ in done], dim=1), [saved for _, saved in done]

    def backward(self, grad: Any, saved: Any, *, need_input: bool) -> Any:
        sizes = [len(part.weight) for part in self.parts]
        pieces = [piece.contiguous() for piece in grad.split(sizes, dim=1)]
        found: list[Any] = [
            part.backward(piece, kept, need_input=need_input)
            for part, piece, kept in zip(self.parts, pieces, saved, strict=True)
        ]
        return sum(found[1:], found[0]) if need_input else None


def _bernoulli(shape: Any, dropout: float, device: Any) -> tuple[torch.Tensor, float]:
    return torch.empty(shape, device=device).bernoulli_(1 - dropout).bool(), 1 - dropout


_forward = linear.AdaptedLinear.forward


def _undropped(self: Any, x: torch.Tensor, *, training: bool) -> Any:
    return _forward(self, x, training=False)


_backward = linear.AdaptedLinear.backward


def _always_down(self: Any, grad: torch.Tensor, saved: Any, *, need_input: bool) -> Any:
    found = _backward(self, grad, saved, need_input=True)
    return found if need_input else None


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _one_thread(variant: Variant) -> Variant:
    def run() -> None:
        with _threads(1):
            variant()

    return run


def attention_variants(length: int, heads: int, size: int) -> dict[str, Variant]:
    """Attention alone, forward and backward, of as many rows as make about 1,200 tokens."""
    B = max(1, 1200 // length)
    q, k, v, grad = (torch.randn(B, heads, length, size) for _ in range(4))
    bias = torch.randn(1, heads, length, length).expand(B, heads, length, length)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
    flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001
    packed_q, packed_k, packed_v = (
        t.transpose(1, 2).reshape(B * length, heads, size) for t in (q, k, v)
    )
    packed_grad = grad.transpose(1, 2).reshape(B * length, heads * size)
    grads = tuple(torch.empty_like(packed_q) for _ in range(3))
    groups = attention.group_rows([length] * B, [length] * B, bias[0], q.device, q.dtype)

    def by_hand() -> None:
        _, saved = attention.attend(packed_q, packed_k, packed_v, groups)
        attention.attend_backward(
            packed_grad, packed_q, packed_k, packed_v, groups, saved, (grads[0], grads[1], grads[2])
        )

    def by_flash() -> None:
        out, normaliser = flash(q, k, v, 0.0, False, attn_mask=bias, scale=1.0)
        flash_backward(grad, q, k, v, out, normaliser, 0.0, False, attn_mask=bias, scale=1.0)

    return {
        f"attention of {B} rows of {length}, by hand": by_hand,
        "  by torch's flash kernel": by_flash,
    }


def measure(variants: dict[str, Variant], rounds: int) -> dict[str, float]:
    """Median seconds of each, all in turn in every round; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, variant in variants.items():
            began = time.perf_counter()
            variant()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(found: dict[str, float], tokens: int | None) -> None:
    """A row a variant: its speed, and how many times as fast it is as the first one."""
    first = next(iter(found.values()))
    for name, seconds in found.items():
        speed = f"{tokens / seconds:8.0f} tokens/s" if tokens else f"{1000 * seconds:8.2f} ms"
        print(f"{name:42}{speed}{first / seconds:8.2f}x")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", default="flan-t5-small", choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/ablations.json")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder, "model"), options.shape, seed=0)
        make_rows(Path(folder, "rows.jsonl"), 200, seed=1)
        workload = Workload(f"{folder}/model", f"{folder}/rows.jsonl", ROWS, 1, 1e-3)
        rows = load_rows(workload)[0][:ROWS]
        model, _ = peft_model(workload, torch.float32)
    tokens = sum(row.tokens for row in rows)
    found: dict[str, dict[str, float]] = {}
    print(
        f"{options.shape}, {ROWS} rows, {tokens:,} real tokens, {torch.get_num_threads()} threads"
    )
    for part in (plain_variants, packed_variants):
        found[part.__name__] = measure(part(model, rows), options.rounds)
        show(found[part.__name__], tokens)
    sizes = SHAPES[options.shape]
    for length in (30, 150, 256):
        alone = measure(attention_variants(length, sizes["num_heads"], 64), options.rounds)
        found[f"attention_{length}"] = alone
        show(alone, None)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"shape": options.shape, "tokens": tokens, "seconds": found}
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
