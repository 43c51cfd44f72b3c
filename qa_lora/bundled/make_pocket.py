"""Makes `pocket`: generates its text, learns its tokenizer, pre-trains it, measures it.

    python -m qa_lora.bundled.make_pocket --out qa_lora/bundled/pocket --seed 0

Every step draws three small batches, one from each stream of `pocket_text`, and adds up their
gradients. Matrices of the layers learn with Muon, embeddings and norms with AdamW; the weights
that are saved are a running mean of those trained. Stopped runs go on with `--resume`.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_lora.bundled.card import card
from qa_lora.bundled.measure import measure
from qa_lora.bundled.pocket_text import Mixture, Pair
from qa_lora.bundled.recipe import (
    DECODER_BIAS,
    ENCODER_BIAS,
    MEAN_DECAY,
    NEIGHBOUR_BIAS,
    POOL,
    RATES,
    SHOW_EVERY,
    STEPS,
    WEIGHTS,
    phase_at,
    rate_at,
)
from qa_lora.bundled.tokens import keep_marks_as_text, make_tokenizer

if TYPE_CHECKING:
    import torch


def batches(
    draw: Callable[[], Pair], rows_now: Callable[[], int], tokenizer: Any, rng: Any
) -> Iterator[Any]:
    """Yields endless batches of pairs as `(ids, mask, labels)`, -100 where padded."""
    import torch

    while True:
        size = rows_now()
        pairs = [draw() for _ in range(size * POOL)]
        sources = tokenizer([p.source for p in pairs])["input_ids"]
        targets = tokenizer([p.target for p in pairs])["input_ids"]
        rows = sorted(
            zip(sources, targets, strict=True), key=lambda row: len(row[0]) + 3 * len(row[1])
        )
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


def look_at_neighbours(weights: "dict[str, torch.Tensor]") -> None:
    """Has some heads look at the tokens just before and after, from the start.

    Without it the biases of relative position grow so slowly that all attention goes by content,
    and the order of the pieces of a name, which copying needs, is not seen.
    """
    # Buckets: 1, 2 are one and two tokens back, 17, 18 as many ahead (encoder only).
    for head, bucket in ((1, 1), (2, 17), (3, 2), (4, 18)):
        weights[ENCODER_BIAS][bucket, head] += NEIGHBOUR_BIAS
    for head, bucket in ((0, 1), (1, 2)):
        weights[DECODER_BIAS][bucket, head] += NEIGHBOUR_BIAS


def optimizers(weights: "dict[str, torch.Tensor]") -> "list[torch.optim.Optimizer]":
    """Gives Muon for the layers' matrices and AdamW for the rest, as `RATES` orders them.

    T5 does not scale its attention scores, so queries learn more slowly than other matrices: at
    the same rate every head soon looks at one single token.
    """
    import torch

    groups: dict[str, list[torch.Tensor]] = {name: [] for name in RATES}
    for name, weight in weights.items():
        if "relative" in name:
            groups["positions"].append(weight)
        elif weight.ndim == 1 or "shared" in name:
            groups["others"].append(weight)
        else:
            groups["queries" if ".q." in name else "matrices"].append(weight)

    def muon(group: "list[torch.Tensor]") -> "torch.optim.Optimizer":
        return torch.optim.Muon(group, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")

    def adam(group: "list[torch.Tensor]") -> "torch.optim.Optimizer":
        return torch.optim.AdamW(group, betas=(0.9, 0.98), weight_decay=0.0)

    return [(adam if k in ("positions", "others") else muon)(g) for k, g in groups.items()]


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


def save(model: Any, mean: "dict[str, torch.Tensor]", tokenizer: Any, folder: Path) -> None:
    """Writes a transformers folder with the running mean of the weights, in bf16."""
    import copy

    import torch
    from transformers import GenerationConfig

    shipped = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        for name, parameter in shipped.named_parameters():
            parameter.copy_(mean[name])
    config = shipped.config
    shipped.generation_config = GenerationConfig(
        decoder_start_token_id=config.decoder_start_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        max_new_tokens=64,
    )
    shipped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    keep_marks_as_text(folder)


def finish(out: Path, seed: int, history: str) -> None:
    """Measures the saved weights and writes the model card beside them."""
    import torch

    state = torch.load(out / "state.pt", weights_only=True)
    text = card(
        measure(out),
        parameters=sum(w.numel() for w in state["weights"].values()),
        size=(out / "model.safetensors").stat().st_size,
        steps=state["step"],
        seconds=state["seconds"],
        seed=seed,
        history=history,
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def pretrain(out: Path, seed: int, steps: int, *, resume: bool, save_every: int = 250) -> None:
    """Trains from random weights, or on from `out/state.pt`, and saves into `out` on the way.

    The model computes in bf16 where that is faster, compiled where there is a compiler; the
    weights that learn are kept in fp32 beside it and copied into it after every step.
    """
    import torch
    from transformers import AutoTokenizer

    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    state_path = out / "state.pt"
    state: dict[str, Any] = torch.load(state_path, weights_only=True) if resume else {}
    if not state:
        learn_tokenizer(seed + 1, out)
    tokenizer = AutoTokenizer.from_pretrained(out, split_special_tokens=False)
    model = new_model(tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer))
    model.set_attn_implementation("eager")
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    look_at_neighbours(weights)
    mean = {n: w.clone() for n, w in weights.items()}
    optims = optimizers(weights)
    first, spent = 0, 0.0
    if state:
        for kept, saved in ((weights, state["weights"]), (mean, state["mean"])):
            for name, weight in kept.items():
                weight.copy_(saved[name])
        for optim, saved in zip(optims, state["optims"], strict=True):
            optim.load_state_dict(saved)
        first, spent = state["step"], state["seconds"]
    if fast := bf16_is_faster():
        model.to(torch.bfloat16)
    parameters = dict(model.named_parameters())
    forward = torch.compile(model, dynamic=True) if shutil.which("g++") else model
    print(f"{sum(w.numel() for w in weights.values()):,} parameters, bf16 {fast}", flush=True)
    step = first
    # A resumed run draws fresh text rather than the first run's again.
    mix = Mixture(seed + 7919 * first)
    draws: dict[str, Callable[[], Pair]] = {
        "terse": mix.terse,
        "reading": lambda: mix.reading(phase_at(step).copying, phase_at(step).sentences),
        "free": mix.free,
    }

    def rows_of(name: str) -> Callable[[], int]:
        return lambda: phase_at(step).rows[name]

    streams = {k: batches(draw, rows_of(k), tokenizer, mix.rng) for k, draw in draws.items()}
    losses = dict.fromkeys(streams, 0.0)
    start = time.perf_counter()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    for step in range(first, steps):
        for name, stream in streams.items():
            ids, mask, labels = next(stream)
            loss = forward(input_ids=ids, attention_mask=mask, labels=labels).loss
            (WEIGHTS[name] * loss).backward()
            losses[name] += loss.item() / SHOW_EVERY
        for name, weight in weights.items():
            weight.grad = parameters[name].grad.float()
            parameters[name].grad = None
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for optim, rate in zip(optims, RATES.values(), strict=True):
            optim.param_groups[0]["lr"] = rate * rate_at(step, steps)
            optim.step()
        decay = min(MEAN_DECAY, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.values()), list(weights.values()), 1 - decay)
            torch._foreach_copy_(list(parameters.values()), list(weights.values()))
        done, seconds = step + 1, spent + time.perf_counter() - start
        if done % SHOW_EVERY == 0:
            shown = " ".join(f"{k} {v:.4f}" for k, v in losses.items())
            print(f"step {done} {shown} {seconds:.0f} s", flush=True)
            losses = dict.fromkeys(streams, 0.0)
        if done % save_every == 0 or done == steps:
            save(model, mean, tokenizer, out)
            state = {
                "weights": weights,
                "mean": mean,
                "optims": [o.state_dict() for o in optims],
                "step": done,
                "seconds": seconds,
            }
            torch.save(state, state_path.with_suffix(".new"))
            state_path.with_suffix(".new").replace(state_path)


def learn_tokenizer(seed: int, out: Path) -> None:
    """Learns the pieces from a sample of the mixture."""
    sample = Mixture(seed)
    texts = []
    for _ in range(20_000):
        for pair in (sample.terse(), sample.reading(0.1, (1, 1, 1)), sample.free()):
            texts += [pair.source, pair.target]
    make_tokenizer(texts, out)


def main() -> None:
    """Reads the command line and makes the model."""
    parser = argparse.ArgumentParser(description="Pre-train and measure the bundled model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and text")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--resume", action="store_true", help="go on from out/state.pt")
    parser.add_argument("--history", default="", help="a sentence for the card about this run")
    arguments = parser.parse_args()
    out: Path = arguments.out
    pretrain(out, arguments.seed, arguments.steps, resume=arguments.resume)
    finish(out, arguments.seed, arguments.history)
    (out / "state.pt").unlink()


if __name__ == "__main__":
    main()
