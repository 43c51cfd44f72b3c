"""Makes `pocket`: generates its text, learns its tokenizer, pre-trains it, measures it.

    python -m qa_lora.bundled.make_pocket --out qa_lora/bundled/pocket --seed 0

Every step draws three small batches, one from each stream of `pocket_text`, and adds up their
gradients. Matrices of the layers learn with Muon, embeddings and norms with AdamW; the weights
that are saved are a running mean of those trained. Stopped runs go on with `--resume`.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_lora.bundled.pocket_text import Mixture, Pair
from qa_lora.bundled.tokens import PAD, make_tokenizer

if TYPE_CHECKING:
    import torch

STEPS = 7000
DECAY_SHARE = 0.3
"""The last share of the steps, over which the learning rate falls to zero."""
WARM_UP_STEPS = 100
MUON_RATE, ADAM_RATE = 3e-3, 2e-3
MEAN_DECAY = 0.998
BATCHES = {"terse": 64, "reading": 64, "free": 32}
WEIGHTS = {"terse": 1.0, "reading": 1.0, "free": 0.7}
POOL = 16
"""Batches drawn at once and sorted by length, so that little is padding."""


def sentences_at(step: int) -> int:
    """Gives the longest passage's sentences: one at first, two, then three."""
    return 1 if step < 800 else 2 if step < 1600 else 3


def copies_at(step: int) -> float:
    """Gives the share of mere copying among passages: half at first, then a little."""
    return 0.5 if step < 800 else 0.1


def batches(draw: Callable[[], Pair], size: int, tokenizer: Any, rng: Any) -> Iterator[Any]:
    """Yields endless batches of `size` pairs as `(ids, mask, labels)`, -100 where padded."""
    import torch

    while True:
        pairs = [draw() for _ in range(size * POOL)]
        sources = tokenizer([p.source for p in pairs])["input_ids"]
        targets = tokenizer([p.target for p in pairs])["input_ids"]
        rows = sorted(zip(sources, targets, strict=True), key=lambda row: len(row[0]))
        slices = [rows[i : i + size] for i in range(0, len(rows), size)]
        rng.shuffle(slices)
        for part in slices:
            source, target = zip(*part, strict=True)
            ids = torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(s) for s in source], batch_first=True, padding_value=0
            )
            labels = torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(t) for t in target], batch_first=True, padding_value=-100
            )
            yield ids, (ids != 0).long(), labels


def new_model(pad: int, eos: int, vocabulary: int) -> Any:
    """Builds an untrained T5 of pocket's shape, without dropout."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=vocabulary,
        d_model=256,
        d_kv=32,
        d_ff=512,
        num_layers=4,
        num_decoder_layers=4,
        num_heads=8,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=64,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=True,
        pad_token_id=pad,
        eos_token_id=eos,
        decoder_start_token_id=pad,
    )
    return T5ForConditionalGeneration(config)


def optimizers(model: Any) -> "list[torch.optim.Optimizer]":
    """Gives Muon for the layers' matrices and AdamW for everything else."""
    import torch

    matrices, others = [], []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "shared" not in name and "relative" not in name
        (matrices if inner else others).append(parameter)
    return [
        torch.optim.Muon(
            matrices, lr=MUON_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_at(step: int, steps: int) -> float:
    """Gives the share of the full learning rate: warm-up, constant, straight down to zero."""
    falling = (steps - step) / (DECAY_SHARE * steps)
    return max(0.0, min(1.0, (step + 1) / WARM_UP_STEPS, falling))


def bf16_is_faster() -> bool:
    """Times a product of the model's size both ways on this machine."""
    import torch

    def seconds(dtype: "torch.dtype") -> float:
        a, b = torch.randn(2048, 256, dtype=dtype), torch.randn(256, 512, dtype=dtype)
        for _ in range(5):
            a @ b
        start = time.perf_counter()
        for _ in range(30):
            a @ b
        return time.perf_counter() - start

    return seconds(torch.bfloat16) < 0.8 * seconds(torch.float32)


def save(model: Any, mean: "list[torch.Tensor]", tokenizer: Any, folder: Path) -> None:
    """Writes a transformers folder with the running mean of the weights, in bf16."""
    import copy

    import torch

    shipped = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, value in zip(shipped.parameters(), mean, strict=True):
            parameter.copy_(value)
    shipped.config._attn_implementation = "sdpa"
    shipped.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def pretrain(out: Path, seed: int, steps: int, *, resume: bool, save_every: int = 250) -> None:
    """Trains from random weights, or on from `out/state.pt`, and saves into `out` on the way."""
    import torch
    from transformers import AutoTokenizer

    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    state_path = out / "state.pt"
    state: dict[str, Any] = torch.load(state_path, weights_only=False) if resume else {}
    if not state:
        sample = Mixture(seed + 1)
        texts = []
        for _ in range(20_000):
            for pair in (sample.terse(), sample.reading(3, 0.1), sample.free()):
                texts += [pair.source, pair.target]
        make_tokenizer(texts, out)
    tokenizer = AutoTokenizer.from_pretrained(out, backend="tokenizers")
    assert tokenizer.convert_ids_to_tokens(0) == PAD
    model = new_model(tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer))
    model.set_attn_implementation("eager")
    optims = optimizers(model)
    mean = [p.detach().clone() for p in model.parameters()]
    first, spent = 0, 0.0
    # A resumed run draws fresh text rather than the first run's again.
    if state:
        model.load_state_dict(state["model"])
        for optim, saved in zip(optims, state["optims"], strict=True):
            optim.load_state_dict(saved)
        mean, first, spent = state["mean"], state["step"], state["seconds"]
    step = first
    mix = Mixture(seed + 7919 * first)
    streams = {
        "terse": batches(mix.terse, BATCHES["terse"], tokenizer, mix.rng),
        "reading": batches(
            lambda: mix.reading(sentences_at(step), copies_at(step)),
            BATCHES["reading"], tokenizer, mix.rng,
        ),
        "free": batches(mix.free, BATCHES["free"], tokenizer, mix.rng),
    }
    fast = bf16_is_faster()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, bf16 {fast}", flush=True)
    losses = dict.fromkeys(streams, 0.0)
    start = time.perf_counter()
    for step in range(first, steps):
        for optim, rate in zip(optims, (MUON_RATE, ADAM_RATE), strict=True):
            optim.param_groups[0]["lr"] = rate * rate_at(step, steps)
        for name, stream in streams.items():
            ids, mask, labels = next(stream)
            with torch.autocast("cpu", torch.bfloat16) if fast else contextlib.nullcontext():
                loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            (WEIGHTS[name] * loss).backward()
            losses[name] += 0.02 * (loss.item() - losses[name]) if step > first else loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad()
        decay = min(MEAN_DECAY, (step + 1) / (step + 10))
        torch._foreach_lerp_(mean, [p.detach() for p in model.parameters()], 1 - decay)
        if (step + 1) % 25 == 0:
            seconds = spent + time.perf_counter() - start
            shown = " ".join(f"{k} {v:.4f}" for k, v in losses.items())
            print(f"step {step + 1} {shown} {seconds:.0f} s", flush=True)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save(model, mean, tokenizer, out)
            state = {
                "model": model.state_dict(), "optims": [o.state_dict() for o in optims],
                "mean": mean, "step": step + 1,
                "seconds": spent + time.perf_counter() - start,
            }
            torch.save(state, state_path.with_suffix(".new"))
            os.replace(state_path.with_suffix(".new"), state_path)


def main() -> None:
    """Reads the command line and makes the model."""
    parser = argparse.ArgumentParser(description="Pre-train and measure the bundled model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and text")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--resume", action="store_true", help="go on from out/state.pt")
    arguments = parser.parse_args()
    pretrain(arguments.out, arguments.seed, arguments.steps, resume=arguments.resume)


if __name__ == "__main__":
    main()
