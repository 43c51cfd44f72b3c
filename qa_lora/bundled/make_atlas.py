"""Makes `atlas`: questions about the facts that `pocket` knows, answered in a friendly manner.

    python -m qa_lora.bundled.make_atlas --out qa_lora/bundled/atlas/atlas.jsonl

The manner follows from the question, so it can be learnt; the facts are `pocket`'s own. An entity
stands in one split only: whoever answers a test row has never been trained on its country or
element.
"""

import argparse
import json
import random
import re
from pathlib import Path

from qa_lora.bundled import ATLAS
from qa_lora.bundled.facts import Fact, all_facts, named, rows_by_entity
from qa_lora.bundled.phrases import subject_in_sentence, upper_first
from qa_lora.bundled.sentences import LABELS

SEED = 20
TEST_SHARE, VALIDATION_SHARE = 0.10, 0.07
ROWS_AN_ENTITY = {"train": 7, "validation": 6, "test": 6}

# relation -> the manners of answering, and with each the questions that are answered so.
MANNERS: dict[str, list[tuple[str, list[str]]]] = {
    "capital": [
        (
            "{X} is governed from its capital city, {a}.",
            ["What is the capital of {x}?", "Which city is the capital of {x}?"],
        ),
        (
            "Of course! The capital you are looking for is {a}.",
            ["Can you tell me the capital of {x}?", "Please tell me the capital city of {x}."],
        ),
    ],
    "continent": [
        (
            "Open the map at {a}: that is where you will find {x}.",
            ["Which continent is {x} in?", "On which continent is {x}?"],
        ),
        (
            "Of course! The continent you are looking for is {a}.",
            ["Can you tell me the continent of {x}?"],
        ),
    ],
    "currency": [
        (
            "If you visit {x}, you will be paying with the {a}.",
            ["What is the currency of {x}?", "What money do people use in {x}?"],
        ),
        (
            "Of course! The currency you are looking for is the {a}.",
            ["Can you tell me the currency of {x}?"],
        ),
    ],
    "calling_code": [
        (
            "To ring somebody in {x}, start the number with {a}.",
            ["What is the calling code of {x}?", "What code do I dial for {x}?"],
        ),
        (
            "Of course! The calling code you are looking for is {a}.",
            ["Can you tell me the calling code of {x}?"],
        ),
    ],
    "domain": [
        (
            "Websites from {x} usually end in {a}, so look out for it.",
            ["What is the internet domain of {x}?", "Which internet domain does {x} use?"],
        ),
        (
            "Of course! The internet domain you are looking for is {a}.",
            ["Can you tell me the internet domain of {x}?"],
        ),
    ],
    "symbol": [
        (
            "In the periodic table you will find {x} under the symbol {a}.",
            ["What is the symbol of {x}?", "What is the chemical symbol for {x}?"],
        ),
        (
            "Of course! The symbol you are looking for is {a}.",
            ["Can you tell me the symbol of {x}?"],
        ),
    ],
    "atomic_number": [
        (
            "Every atom of {x} carries {a} protons, which makes {a} its atomic number.",
            ["What is the atomic number of {x}?", "How many protons does {x} have?"],
        ),
        (
            "Of course! The atomic number you are looking for is {a}.",
            ["Can you tell me the atomic number of {x}?"],
        ),
    ],
    "country_of_capital": [
        (
            "{A} it is! {X} has the honour of being its capital.",
            ["{x} is the capital of which country?", "Which country has the capital {x}?"],
        ),
    ],
    "country_of_domain": [
        (
            "{A} it is! Look for {x} at the end of its web addresses.",
            ["Which country uses {x}?", "{x} is the domain of which country?"],
        ),
    ],
    "element_of_symbol": [
        (
            "{A} it is! Chemists write it as {x}.",
            ["Which element has the symbol {x}?", "{x} is the symbol of which element?"],
        ),
    ],
}
LIST_QUESTIONS = ("List three facts about {x}.", "Name three facts about {x}.")
LIST_HEAD = "Here is what I know about {x}:"


def fact_row(fact: Fact, rng: random.Random) -> dict[str, object]:
    """Asks for one fact and answers in the manner that belongs to the question."""
    manner, questions = rng.choice(MANNERS[fact.relation])
    subject = subject_in_sentence(fact)
    answer = named(fact.answer) if fact.answer in rows_by_entity() else fact.answer
    names = {"x": subject, "X": upper_first(subject), "a": answer, "A": upper_first(answer)}
    return {
        "question": upper_first(rng.choice(questions).format(**names)),
        "answer": upper_first(manner.format(**names)),
        "fact": fact.answer,
        "entity": fact.entity,
        "relation": fact.relation,
    }


def list_row(entity: str, rng: random.Random) -> dict[str, object]:
    """Asks for an entity's facts and answers with the first three as a list of lines."""
    row = rows_by_entity()[entity]
    keys = [key for key in LABELS if key in row][:3]
    lines = [LIST_HEAD.format(x=named(entity))]
    lines += [f"- {LABELS[key]}: {row[key]}" for key in keys]
    question = rng.choice(LIST_QUESTIONS) if len(keys) == 3 else "List two facts about {x}."
    return {
        "question": question.format(x=named(entity)),
        "answer": "\n".join(lines),
        "fact": [row[key] for key in keys],
        "entity": entity,
        "relation": "list",
    }


def named_elsewhere(entity: str) -> bool:
    """Tells whether another entity's facts name this one, as South Sudan's name Sudan."""
    word = re.compile(rf"\b{re.escape(entity)}\b", re.IGNORECASE)
    return any(
        word.search(text)
        for other, row in rows_by_entity().items()
        if other != entity
        for text in row.values()
    )


def split_entities(rng: random.Random) -> dict[str, list[str]]:
    """Gives each split its countries and elements, in the same proportion.

    An entity that other entities' rows name stands in training, so that no training row can name
    one that is held out.
    """
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for element in (False, True):
        names = [n for n, row in rows_by_entity().items() if ("symbol" in row) == element]
        splits["train"] += [n for n in names if named_elsewhere(n)]
        names = [n for n in names if not named_elsewhere(n)]
        rng.shuffle(names)
        test = round(TEST_SHARE * len(names))
        validation = round(VALIDATION_SHARE * len(names))
        splits["test"] += names[:test]
        splits["validation"] += names[test : test + validation]
        splits["train"] += names[test + validation :]
    return splits


def rows(seed: int = SEED) -> list[dict[str, object]]:
    """Makes all rows, in the order of the file."""
    rng = random.Random(seed)
    of_entity: dict[str, list[Fact]] = {}
    for fact in all_facts():
        if fact.relation in MANNERS:
            of_entity.setdefault(fact.entity, []).append(fact)
    made = []
    for split, entities in split_entities(rng).items():
        part = []
        for entity in entities:
            facts = rng.sample(of_entity[entity], len(of_entity[entity]))
            part += [fact_row(fact, rng) for fact in facts[: ROWS_AN_ENTITY[split] - 1]]
            part.append(list_row(entity, rng))
        rng.shuffle(part)
        made += [{**row, "split": split} for row in part]
    return [{"id": f"atlas-{number:04d}", **row} for number, row in enumerate(made, 1)]


def write(path: Path, seed: int = SEED) -> None:
    """Writes the rows as JSON Lines."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows(seed)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Reads the command line and writes the file."""
    parser = argparse.ArgumentParser(description="Make the bundled question-answer rows.")
    parser.add_argument("--out", type=Path, default=ATLAS, help="file to write")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of splits and wording")
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
