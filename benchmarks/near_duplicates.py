"""How long the search for near-duplicates takes, what memory it needs, and what it finds.

The questions are generated: half are free sentences of words as frequent as a natural language's
(Zipf), half fill templates with two-word names, and every tenth is a copy of another one with a
slip of the pen, a courtesy or another order of words.

    python benchmarks/near_duplicates.py --questions 200000 1000000
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time

import numpy as np
import psutil

TEMPLATES = (
    "What is the capital of {}?",
    "Which currency do people use in {}?",
    "Can you tell me the calling code of {}?",
    "Please describe in detail, with examples and sources, the history and present state of the "
    "internet domain, the postal system and the telephone network of {}.",
)


def questions(count: int, seed: int = 0) -> tuple[list[str], list[tuple[int, int]]]:
    """Generated questions, and the pairs of them that were made to be near."""
    rng = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(rng.choices(letters, k=rng.randint(4, 10))) for _ in range(60_000)]
    weights = np.cumsum([1 / (rank + 10) for rank in range(len(words))]).tolist()
    made: list[str] = []
    pairs = []
    for number in range(count):
        if number >= 10 and number % 10 == 0:
            source = rng.randrange(number - 9, number)
            made.append(_reworded(made[source], rng))
            pairs.append((source, number))
        elif number % 2:
            body = rng.choices(words, cum_weights=weights, k=rng.randint(4, 12))
            made.append(f"How does the {' '.join(body)}?")
        else:
            name = f"{rng.choice(words)} {rng.choice(words)}".title()
            made.append(rng.choice(TEMPLATES).format(name))
    return made, pairs


def _reworded(question: str, rng: random.Random) -> str:
    words = question.rstrip("?.").split()
    kind = rng.randrange(3)
    if kind == 0:  # a slip in the longest word
        at = max(range(len(words)), key=lambda i: len(words[i]))
        cut = rng.randrange(1, len(words[at]))
        words[at] = words[at][:cut] + words[at][cut + 1 :]
    elif kind == 1:
        words = ["Hello,", "could", "you", "please", "tell", "me:", *words]
    else:
        words = [*words[len(words) // 2 :], *words[: len(words) // 2]]
    return " ".join(words)


def measure(count: int) -> dict[str, float]:
    """Generate, search, and say what it took beyond the questions themselves."""
    from qa_lora.data.near import clusters, find

    made, wanted = questions(count)
    process = psutil.Process()
    before = process.memory_info().rss
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, worked = time.perf_counter(), time.process_time()
    pairs = find(made, 0.8)
    seconds = time.perf_counter() - started
    labels = clusters(count, pairs)
    clustered = time.perf_counter() - started
    processor = time.process_time() - worked
    done.set()
    watcher.join()
    sizes = np.bincount(labels)
    return {
        "questions": count,
        "seconds": round(seconds, 1),
        "seconds_with_clusters": round(clustered, 1),
        "processor_seconds": round(processor, 1),
        "extra_mib": round((peak[0] - before) / 2**20),
        "pairs": len(pairs),
        "made_near": len(wanted),
        "found_of_them": sum(labels[a] == labels[b] for a, b in wanted) / max(1, len(wanted)),
        "largest_cluster": int(sizes.max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--questions", type=int, nargs="+", default=[200_000])
    parser.add_argument("--here", action="store_true", help="in this process, for one count")
    arguments = parser.parse_args()
    for count in arguments.questions:
        if arguments.here:
            print(json.dumps(measure(count)))
        else:  # each in a process of its own, so that memory is told apart
            command = [sys.executable, __file__, "--here", "--questions", str(count)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
