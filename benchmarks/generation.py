"""How fast many held-out questions are answered, by the base and by its adapter.

    python benchmarks/generation.py [--shape flan-t5-small] [--rows 500] [--out FILE.json]

Three ways answer the same questions greedily, each in a process of its own, one after the other:
(a) one `generate` call a question, as the source notebook does it; (b) `generate` for batches in
file order, padded; (c) this project. Each answers twice, as base and with the adapter. `--rows-a`
and `--rows-b` let (a) and (b) answer a part of the questions, spread evenly or the first ones; all
ways are then compared by the answer tokens they give a second, and a second of the processors,
which other work on the machine disturbs less. Answers that differ from those of (a) are counted,
and where they part the two highest logits are compared. Exit code 1 if a required ratio is missed,
or if answers differ by more than rounding.

Shapes of FLAN-T5 have random weights: right for speed and memory, wrong for quality. One id in 50
ends their answers (see generating/questions.py), in all ways alike. `pocket` answers `atlas`.

`--memory` measures instead what comparing takes: base alone, base and adapter in one model that
answers for both, and two models.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from own_process import run_part
from throughput.workload import SHAPES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WAYS = {
    "row": "(a) a generate call a question",
    "padded": "(b) padded batches",
    "ours": "(c) this project",
}
REQUIRED = {"cpu": {"row": 8.0, "padded": 2.0}, "cuda": {"row": 8.0}}
"""Times as many answer tokens a second as these."""
ROUNDING = 1e-3
"""Logits no further apart than this are one for what rounding does to them."""
HOLDING = {"base": "base alone", "one": "one model for both", "two": "two models"}
MOST_MEMORY = 1.10
"""Of base and adapter, what comparing with one model may take."""


def speed(asked: Any, options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Every way's figures; whether all that is required is met."""
    everything = list(range(options.rows))
    apart = max(1, options.rows // options.rows_a) if options.rows_a else 1
    rows = {
        "row": everything[::apart][: options.rows_a or None],
        "padded": everything[: options.rows_b or None],
        "ours": everything,
    }
    number = {"row": 1, "padded": options.batch, "ours": options.batch_tokens}
    print(f"{options.shape}, {options.device}, {options.precision}, {options.rows} questions twice")
    print(
        f"{'way':32}{'answers':>8}{'seconds':>9}{'rows/s':>8}{'tokens/s':>10}{'peak MB':>9}"
        f"{'(c) is':>9}{'CPU s':>8}{'(c) is':>9}",
        flush=True,
    )
    found: dict[str, Any] = {}
    good = True
    for way in ("ours", *options.ways):
        places = json.dumps(rows[way])
        row = run_part(
            WAYS[way], "generating.ways", way, json.dumps(asked), places, str(number[way])
        )
        found[way] = row
        count = 2 * len(rows[way])
        row["rows"] = count
        row["rows_per_second"] = count / row["seconds"]
        row["tokens_per_second"] = row["tokens"] / row["seconds"]
        ratio = found["ours"]["tokens_per_second"] / row["tokens_per_second"]
        each = [r["tokens"] / r["cpu_seconds"] for r in (found["ours"], row)]
        row |= {"ours_is_times": ratio, "ours_is_times_by_cpu": each[0] / each[1]}
        note = "" if len(rows[way]) == options.rows else "  of a part"
        print(
            f"{WAYS[way]:32}{count:8}{row['seconds']:9.1f}{row['rows_per_second']:8.2f}"
            f"{row['tokens_per_second']:10.0f}{row['peak_memory_bytes'] / 1e6:9.0f}"
            f"{ratio:8.2f}x{row['cpu_seconds']:8.1f}{each[0] / each[1]:8.2f}x{note}",
            flush=True,
        )
        good &= way == "ours" or ratio >= REQUIRED[options.device].get(way, 0.0)
    lengths = sorted(n for said in found["ours"]["answers"].values() for _, n in said.values())
    share_cut = sum(n == options.max_new_tokens for n in lengths) / len(lengths)
    print(
        "tokens of an answer: quartiles "
        + ", ".join(str(lengths[len(lengths) * q // 4]) for q in (1, 2, 3))
        + f"; {100 * share_cut:.0f} % cut at {options.max_new_tokens}"
    )
    if "row" in found:
        good &= same_answers(asked, found, options.precision)
    for row in found.values():
        del row["answers"]
    return found, good


def same_answers(asked: Any, found: dict[str, Any], precision: str) -> bool:
    """Compare this project's answers with those of a call a question; whether they may be so."""
    ours = found["ours"]["answers"]
    differing = {
        system: {i: ours[system][i] for i, answer in said.items() if ours[system][i] != answer}
        for system, said in found["row"]["answers"].items()
    }
    count = sum(map(len, differing.values()))
    parted: list[dict[str, Any]] = []
    if count:
        told = json.dumps(differing)
        parted = run_part("Comparing", "generating.ways", "gaps", json.dumps(asked), told, "0")
    found["ours"] |= {"answers_that_differ": count, "where_they_part": parted}
    print(f"answers that differ from (a): {count} of {found['row']['rows']}")
    for at in parted:
        print(f"  {at['system']}: two highest logits {at['gap']:.1e} apart, at {at['logit']:.2f}")
    return precision != "fp32" or all(at["gap"] <= ROUNDING for at in parted)


def memory(asked: Any) -> tuple[dict[str, Any], bool]:
    """Peak memory of comparing, over what Python and its libraries take."""
    found = {
        how: run_part(name, "generating.memory", how, json.dumps(asked))
        for how, name in HOLDING.items()
    }
    least = found["base"]["peak_bytes"] + found["one"]["adapter_bytes"]
    print(f"{'held':24}{'peak MB':>9}{'of base and adapter':>21}")
    for how, row in found.items():
        row["share"] = row["peak_bytes"] / least
        print(f"{HOLDING[how]:24}{row['peak_bytes'] / 1e6:9.0f}{row['share']:20.2f}x")
    return found, found["one"]["share"] <= MOST_MEMORY


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", default="flan-t5-small", choices=[*SHAPES, "pocket"])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--rows-a", type=int, default=0, help="rows that (a) answers; 0 for all")
    parser.add_argument("--rows-b", type=int, default=0, help="rows that (b) answers; 0 for all")
    parser.add_argument("--batch", type=int, default=16, help="rows of a batch of (b)")
    parser.add_argument("--batch-tokens", type=int, default=0, help="budget of (c); 0 for its own")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--ways", nargs="*", default=["row", "padded"], choices=["row", "padded"])
    parser.add_argument("--memory", action="store_true", help="measure memory instead of speed")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        given = ("max_new_tokens", "device", "precision")
        rest = json.dumps({name: getattr(options, name) for name in given})
        asked = run_part(
            "Preparing", "generating.questions", folder, options.shape, str(options.rows), rest
        )
        found, good = memory(asked) if options.memory else speed(asked, options)
    name = "memory" if options.memory else "generation"
    default = ROOT / f"benchmarks/results/{name}_{options.shape}_{options.device}.json"
    out = options.out or default
    out.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": platform.platform(terse=True), "cpus": os.cpu_count(), "found": found}
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
