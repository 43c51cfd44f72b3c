"""Kill trainings with SIGKILL at random moments, resume them, and compare with ones left alone.

    python benchmarks/kill.py [--kills 50] [--seed 0] [--out benchmarks/results/kill.json]

A run is killed again and again, each time in another place, until it is done; then its adapter's
bytes and its story (all events, without clocks and memory) must be those of a run that nobody
touched. Half of the runs keep the best adapter and half the last one. Exit code 1 if one differs.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import psutil

from qa_lora import event_log, runs
from qa_lora.config import TrainConfig
from qa_lora.events import Started, to_json
from qa_lora.runs import Run

ROOT = Path(__file__).resolve().parent.parent
CLOCKS = (
    "time", "elapsed_seconds", "eta_seconds", "tokens_per_second", "seconds", "peak_memory_bytes",
    "run",
)  # fmt: skip
"""Fields of events that no two runs share."""
PLACES = ("anywhere", "step", "checkpoint", "adapter", "event line")


def make_model(folder: Path) -> Path:
    """A T5 of two narrow layers with random weights and the bundled model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "qa_lora/bundled/pocket")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def story(run: Run) -> list[dict[str, Any]]:
    """What a run tells that does not depend on the clock or on how often it was resumed."""
    first, *others = run.events()
    told = [first, *(event for event in others if not isinstance(event, Started))]
    return [
        {k: v for k, v in json.loads(to_json(event)).items() if k not in CLOCKS} for event in told
    ]


def adapter_bytes(run: Run) -> dict[str, bytes]:
    """Every file of the kept adapter."""
    return {path.name: path.read_bytes() for path in sorted(run.adapter.iterdir())}


def first_difference(run: Run, other: Run) -> str:
    """Where two runs part, for whoever has to find out why."""
    for one, two in zip_longest(story(run), story(other)):
        if one != two:
            return f"{one}\nis not\n{two}"
    mine, yours = adapter_bytes(run), adapter_bytes(other)
    differing = [name for name in mine | yours if mine.get(name) != yours.get(name)]
    return f"The files {', '.join(differing)} differ."


def wait_for_end(run: Run) -> None:
    """Until its process is gone."""
    while run.alive():
        time.sleep(0.02)


def kill(run: Run, place: str, chance: random.Random, seconds: float) -> bool:
    """Kill a run's process in a place; gives whether it got there alive.

    Args:
        run: A run that was just started or resumed.
        place: One of PLACES.
        chance: Decides how often the place is passed, and the delay in it.
        seconds: How long a whole run takes, for the place "anywhere".
    """
    process = psutil.Process(int(json.loads((run.path / "process.json").read_text())["pid"]))
    if place == "anywhere":
        end = time.monotonic() + chance.uniform(0, seconds)
        _until(lambda: time.monotonic() > end, process)
    else:
        passed = chance.randrange(4)
        mark = run.path / {"checkpoint": ".checkpoint.new", "adapter": ".adapter.new"}.get(
            place, ""
        )
        for _ in range(passed + 1):
            if mark == run.path:
                _until(_grows(run), process)
            else:
                _until(lambda: not mark.exists(), process)
                _until(mark.exists, process)
        end = time.perf_counter() + chance.uniform(0, 0.015)
        while time.perf_counter() < end:
            pass
    alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    if alive:
        process.kill()
        wait_for_end(run)
    if place == "event line" and run.events_path.exists():
        content = run.events_path.read_bytes()
        last = content[content.rfind(b"\n", 0, -1) + 1 :]
        kept = chance.randrange(1, max(2, len(last)))
        run.events_path.write_bytes(content[: len(content) - len(last) + kept])
    return alive


def _grows(run: Run) -> Callable[[], bool]:
    def size() -> int:
        return run.events_path.stat().st_size if run.events_path.exists() else 0

    before = size()
    return lambda: size() > before


def _until(condition: Callable[[], bool], process: psutil.Process) -> None:
    """Until the condition holds or the process is gone."""
    looks = 0
    while not condition():
        looks += 1
        time.sleep(0.0002)  # the process needs the core more
        if looks % 100 == 0 and (
            not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        ):
            return


def survive(
    config: TrainConfig, folder: Path, places: list[str], chance: random.Random, seconds: float
) -> tuple[Run, list[tuple[str, int]]]:
    """Start a run, kill it in each of the places in turn, and let it end.

    Returns:
        The run, and for each kill that hit: its place and the steps that were lost with it.
    """
    run = runs.start(config, folder)
    kills: list[tuple[str, int]] = []
    for place in places:
        hit = kill(run, place, chance, seconds)
        if run.status() not in ("interrupted", "running"):
            break
        last = event_log.last_word(run.events_path)
        reached = last.step if last is not None and hasattr(last, "step") else 0
        runs.resume(run)
        known = event_log.last_word(run.events_path)
        saved = known.step if known is not None and hasattr(known, "step") else 0
        if hit:
            kills.append((place, reached - saved))
    wait_for_end(run)
    return run, kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/kill.json")
    options = parser.parse_args()
    chance = random.Random(options.seed)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = make_model(folder / "model")
        configs = [
            TrainConfig.build(
                model=str(model), data="atlas", max_rows=120, max_steps=60, checkpoint_every=4,
                evaluate_every=3, validation_rows=8, probe_rows=1, max_new_tokens=4, score_rows=0,
                learning_rate=1e-3, batch_size=4, keep=keep, checkpoint_seconds=None,
            )
            for keep in ("best", "last")
        ]  # fmt: skip
        began = time.monotonic()
        whole = [runs.start(config, folder / "whole") for config in configs]
        for run in whole:
            wait_for_end(run)
        seconds = (time.monotonic() - began) / len(whole)
        kills: list[tuple[str, int]] = []
        trials = differing = 0
        while len(kills) < options.kills:
            number = trials % len(configs)
            trials += 1
            places = chance.choices(PLACES, k=min(6, options.kills - len(kills)))
            run, hit = survive(configs[number], folder / "killed", places, chance, seconds)
            kills += hit
            same = story(run) == story(whole[number])
            same = same and adapter_bytes(run) == adapter_bytes(whole[number])
            differing += not same
            where = ", ".join(place for place, _ in hit)
            verdict = "the same" if same else f"NOT THE SAME, {run.status()}"
            print(f"run {trials}: killed in {where}: {verdict}", flush=True)
            if not same:
                print(first_difference(run, whole[number]))
                print((run.path / "worker.log").read_text()[-2000:])

    count = Counter(place for place, _ in kills)
    lost = {place: max((n for p, n in kills if p == place), default=0) for place in PLACES}
    print(f"\n{'killed in':14} {'kills':>6} {'most steps lost':>16}")
    for place in PLACES:
        print(f"{place:14} {count[place]:6} {lost[place]:16}")
    print(f"{'all':14} {len(kills):6} {max(lost.values()):16}")
    print(
        f"{trials} runs, {trials - differing} of them the same as one that nobody touched, in "
        "adapter bytes and in every event"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"kills": count, "most_steps_lost": lost, "runs": trials, "differing": differing}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
