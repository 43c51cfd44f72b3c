"""The loops that are compared. Each trains a workload in this process and tells its windows.

    python -m throughput.loops LOOP WORKLOAD_JSON

prints one JSON object: seconds and real tokens of each optimizer step, peak memory, and the
validation loss at the end, computed the same way for all.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

from throughput.workload import Workload, load_rows, train_config

Steps = list[tuple[float, int]]
"""Seconds and real tokens of each optimizer step."""

NOTEBOOK_BATCH = 4
MAP_BATCH = 1000
"""Rows that the notebook's `map` tokenises, and pads, together."""


def notebook(workload: Workload) -> tuple[Steps, float]:
    """The source notebook's loop: fp32, padded to the longest of a map batch, labels with 0."""
    train, validation, _ = load_rows(workload)
    model, device = peft_model(workload, torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=workload.learning_rate)
    schedule = _linear(optimizer, workload)
    batches = []
    for start in range(0, len(train), MAP_BATCH):
        part = train[start : start + MAP_BATCH]
        source = max(len(row.input_ids) for row in part)
        target = max(len(row.labels) for row in part)
        for first in range(0, len(part), NOTEBOOK_BATCH):
            rows = part[first : first + NOTEBOOK_BATCH]
            batches.append((rows, source, target))
    accumulation = workload.effective_batch // NOTEBOOK_BATCH
    steps: Steps = []
    model.train()
    place = 0
    for _ in range(workload.steps):
        began, tokens = time.perf_counter(), 0
        for _ in range(accumulation):
            rows, source, target = batches[place % len(batches)]
            place += 1
            ids = torch.zeros((len(rows), source), dtype=torch.long)
            labels = torch.zeros((len(rows), target), dtype=torch.long)
            for i, row in enumerate(rows):
                ids[i, : len(row.input_ids)] = torch.tensor(row.input_ids)
                labels[i, : len(row.labels)] = torch.tensor(row.labels)
            tokens += sum(row.tokens for row in rows)
            loss = model(
                input_ids=ids.to(device),
                attention_mask=(ids != 0).long().to(device),
                labels=labels.to(device),
            ).loss
            (loss / accumulation).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        _wait(device)
        steps.append((time.perf_counter() - began, tokens))
    return steps, _validation_loss(model, validation, device)


def trainer_default(workload: Workload) -> tuple[Steps, float]:
    """`Seq2SeqTrainer` with PEFT as it comes: batch 8, fp32, padded to the batch's longest."""
    return _trainer(workload, batch=8)


def trainer_best(workload: Workload) -> tuple[Steps, float]:
    """The same at the best it offers: bf16 where the hardware has it, grouped by length."""
    from qa_lora.devices import choose_device, choose_dtype

    bf16 = choose_dtype("auto", choose_device()) is torch.bfloat16
    return _trainer(
        workload,
        batch=int(os.environ.get("TRAINER_BATCH", "8")),
        bf16=bf16,
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        dataloader_num_workers=2 if torch.cuda.is_available() else 0,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def ours(workload: Workload) -> tuple[Steps, float]:
    """This project's loop, driven as `qa-lora train` drives it."""
    from qa_lora.events import Finished, Step
    from qa_lora.training import train

    with tempfile.TemporaryDirectory() as folder:
        config = train_config(workload)
        steps: Steps = []
        validation, tokens = float("nan"), tokens_of_steps(workload)
        began = time.perf_counter()
        for event in train(config, Path(folder)):
            now = time.perf_counter()
            if isinstance(event, Step):
                steps.append((now - began, next(tokens)))
            if isinstance(event, Finished) and event.validation_loss is not None:
                validation = event.validation_loss
            began = time.perf_counter()
    return steps, validation


def tokens_of_steps(workload: Workload) -> Iterator[int]:
    """Real tokens of each optimizer step of this project's loop."""
    from qa_lora.batching import epoch_batches

    rows, _, _ = load_rows(workload)
    lengths = [row.tokens for row in rows]
    for epoch in itertools.count():
        for batch in epoch_batches(
            lengths, workload.effective_batch, seed=workload.seed, epoch=epoch
        ):
            yield sum(lengths[i] for i in batch)


LOOPS: dict[str, Callable[[Workload], tuple[Steps, float]]] = {
    "notebook": notebook,
    "trainer": trainer_default,
    "trainer-best": trainer_best,
    "ours": ours,
}


def _trainer(workload: Workload, *, batch: int, **options: Any) -> tuple[Steps, float]:
    from transformers import (
        DataCollatorForSeq2Seq,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        TrainerCallback,
    )

    train, validation, tokenizer = load_rows(workload)
    model, device = peft_model(workload, torch.float32)
    rows = [
        {
            "input_ids": row.input_ids,
            "attention_mask": [1] * len(row.input_ids),
            "labels": row.labels,
            "length": row.tokens,
        }
        for row in train
    ]
    pad = DataCollatorForSeq2Seq(tokenizer, model=model)
    seen = [0]

    def collate(part: list[dict[str, Any]]) -> Any:
        kept = [{k: v for k, v in row.items() if k != "length"} for row in part]
        return pad(kept)

    steps: Steps = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()
            seen[0] = 0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            _wait(device)
            steps.append((time.perf_counter() - self.began, seen[0]))

    class Counting(Seq2SeqTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            seen[0] += int(inputs["attention_mask"].sum() + (inputs["labels"] != -100).sum())
            return super().training_step(model, inputs, *rest, **more)

    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            folder,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=workload.effective_batch // batch,
            max_steps=workload.steps,
            learning_rate=workload.learning_rate,
            seed=workload.seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
            **options,
        )
        Counting(
            model,
            arguments,
            train_dataset=rows,
            data_collator=collate,
            processing_class=tokenizer,
            callbacks=[Clock()],
        ).train()
    return steps, _validation_loss(model, validation, device)


def peft_model(workload: Workload, dtype: torch.dtype) -> tuple[Any, torch.device]:
    from peft import LoraConfig, get_peft_model

    from qa_lora.devices import choose_device
    from qa_lora.models import load_base

    device = choose_device()
    base = load_base(workload.model, precision="fp32", device=device).model.to(dtype)
    torch.manual_seed(workload.seed)
    settings = train_config(workload)
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=settings.target_modules.split(","),
    )
    return get_peft_model(base, config), device


def _linear(optimizer: Any, workload: Workload) -> Any:
    from transformers import get_scheduler

    return get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=workload.steps)


@torch.no_grad()
def _validation_loss(model: Any, rows: Any, device: torch.device) -> float:
    """Mean negative log-likelihood of the real label tokens, in nats, row by row."""
    model.eval()
    total, tokens = 0.0, 0
    for row in rows:
        loss = model(
            input_ids=torch.tensor([row.input_ids], device=device),
            labels=torch.tensor([row.labels], device=device),
        ).loss
        total += float(loss) * len(row.labels)
        tokens += len(row.labels)
    return total / tokens


def flops_per_token(workload: Workload) -> float:
    """Operations that a real token needs: 4 a parameter it passes, and those of attention."""
    from qa_lora.estimate.shapes import model_shape
    from qa_lora.estimate.speed import flops

    rows = [(len(row.input_ids), len(row.labels)) for row in load_rows(workload)[0]]
    return flops(model_shape(workload.model), rows) / sum(map(sum, rows))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: list[str]) -> None:
    from qa_lora.devices import choose_device, peak_memory_bytes

    loop, workload = arguments[0], Workload(**json.loads(arguments[1]))
    steps, loss = LOOPS[loop](workload)
    found = {
        "steps": steps,
        "peak_memory_bytes": peak_memory_bytes(choose_device()),
        "validation_loss": loss,
        "flops_per_token": flops_per_token(workload),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
