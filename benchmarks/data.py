"""Measure the way from a file of questions and answers to batches of token ids.

    python benchmarks/data.py [--rows 1000000] [--tokenizer FOLDER] [--format csv]

Writes a file of that many rows, then reads it in processes of their own, one after the other:

- plain: `datasets.load_dataset`, one batched `map` with the fast tokenizer, batches of 32 in order
- ours: read, checked, divided by question and near-duplicate, tokenised, batches of like length
- again: the same in a second process, which opens what the first one read and divided

Prints rows a second from the file to the last batch of the training side, seconds to the first
batch, and peak memory. Exit code 1 if ours is slower than plain or needs 2 GiB or more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BATCH = 32
LIMIT_MIB = 2048


def write_rows(path: Path, count: int) -> None:
    """Rows of about HC3's lengths: 60 letters of question, 600 of answer, each question another."""
    draw = random.Random(0)
    parts = ("ba", "con", "ter", "ing", "lo", "ra", "mi", "sta", "ness", "ver", "pre", "dun", "ol")
    words = ["".join(draw.choices(parts, k=draw.randint(1, 3))) for _ in range(5000)]
    asked = [" ".join(draw.choices(words, k=6)) for _ in range(20_000)]
    told = [" ".join(draw.choices(words, k=15)) for _ in range(20_000)]
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("question,answer\n")
        for number in range(count):
            question = f"{draw.choice(asked)} {number} {draw.choice(words)} {draw.choice(words)}?"
            answer = ". ".join(draw.choices(told, k=max(1, int(draw.lognormvariate(1.6, 0.6)))))
            if path.suffix == ".csv":
                file.write(f"{question},{answer}\n")
            else:
                file.write(json.dumps({"question": question, "answer": answer}) + "\n")


def plain(path: Path, tokenizer_folder: str, began: float) -> dict[str, float]:
    """What a user of datasets writes."""
    import torch
    from datasets import disable_progress_bars, load_dataset

    from qa_lora.models import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    disable_progress_bars()
    kind = "csv" if path.suffix == ".csv" else "json"
    cache = path.parent / "plain"
    rows = load_dataset(kind, data_files=str(path), split="train", cache_dir=str(cache))

    def tokens(batch: dict[str, list[str]]) -> dict[str, Any]:
        prompts = [f"Answer this question: {question}" for question in batch["question"]]
        model_inputs = tokenizer(prompts, max_length=256, truncation=True)
        labels = tokenizer(text_target=batch["answer"], max_length=256, truncation=True)
        return {"input_ids": model_inputs["input_ids"], "labels": labels["input_ids"]}

    encoded = rows.map(tokens, batched=True, remove_columns=rows.column_names)
    first = 0.0
    for batch in encoded.iter(BATCH):
        sources = [torch.tensor(ids) for ids in batch["input_ids"]]
        labels = [torch.tensor(ids) for ids in batch["labels"]]
        torch.nn.utils.rnn.pad_sequence(sources, batch_first=True)
        torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        first = first or time.time() - began
    return {"rows": len(encoded), "first_batch_seconds": first}


def ours(path: Path, tokenizer_folder: str, began: float) -> dict[str, float]:
    """What a training does before and between its steps."""
    from functools import partial

    from qa_lora.batching import collate, encode, epoch_batches
    from qa_lora.config import TrainConfig
    from qa_lora.data import load_split
    from qa_lora.models import load_tokenizer
    from qa_lora.prompts import PromptTemplate
    from qa_lora.training_rows import TrainingRows

    tokenizer = load_tokenizer(tokenizer_folder)
    config = TrainConfig(data=str(path), validation_fraction=0.01, test_fraction=0.01)
    split = load_split(config)
    divided = time.time() - began
    rows = TrainingRows(
        split.train,
        partial(
            encode,
            tokenizer=tokenizer,
            template=PromptTemplate(),
            max_source_tokens=config.max_source_tokens,
            max_target_tokens=config.max_target_tokens,
        ),
    )
    first = 0.0
    count = 0
    for batch in rows.batches(epoch_batches(rows.lengths, BATCH, seed=config.seed, epoch=0)):
        collate(batch, tokenizer.pad_token_id)
        first = first or time.time() - began
        count += len(batch)
    sides = chain(split.train, split.validation, split.test)
    return {
        "rows": sum(1 for _ in sides),
        "first_batch_seconds": first,
        "divided_seconds": divided,
        "trained_rows": count,
    }


WAYS = {"plain": plain, "ours": ours, "again": ours}


def measure(way: str, path: Path, tokenizer: str) -> dict[str, float]:
    """One way in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--file", str(path)]
    output = subprocess.run(
        [*command, "--tokenizer", tokenizer],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(path.parent / "cache"),
            "TOKENIZERS_PARALLELISM": "true",
        },
    ).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tokenizer", default="pocket", help="pocket, or a tokenizer's folder")
    parser.add_argument("--format", default="csv", choices=("csv", "jsonl"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/data.json")
    parser.add_argument("--way", choices=tuple(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        began = time.time()
        figures = WAYS[options.way](options.file, options.tokenizer, began)
        figures["seconds"] = time.time() - began
        figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(figures))
        return 0

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{options.format}"
        write_rows(path, options.rows)
        print(f"{options.rows:,} rows, {path.stat().st_size / 1024**2:,.0f} MiB {path.suffix}")
        found = {way: measure(way, path, options.tokenizer) for way in WAYS}
    print(f"{'way':8}{'rows/s':>10}{'seconds':>10}{'first batch':>13}{'peak MiB':>10}")
    for way, figures in found.items():
        speed = figures["rows"] / figures["seconds"]
        print(
            f"{way:8}{speed:10,.0f}{figures['seconds']:10.1f}"
            f"{figures['first_batch_seconds']:13.1f}{figures['peak_mib']:10,.0f}"
        )
    ratio = found["plain"]["seconds"] / found["ours"]["seconds"]
    print(f"ours is {ratio:.2f} x as fast as plain")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps({"rows": options.rows, **found}, indent=2) + "\n")
    return 0 if ratio >= 1 and found["ours"]["peak_mib"] < LIMIT_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
