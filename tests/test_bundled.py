"""What ships: the model loads without our code and knows what its card says, the data are clean."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qa_lora.bundled import ATLAS, POCKET, UNKNOWN_ANSWER
from qa_lora.bundled.facts import RELATIONS, all_facts, rows_by_entity


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """The rows of atlas."""
    return [json.loads(line) for line in ATLAS.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Pocket's tokenizer, loaded as anyone would."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(POCKET)


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, float]]:
    """Pocket measured on a sample of the held-out questions."""
    from qa_lora.bundled.measure import measure

    return measure(POCKET, limit=150)


def facts_of(row: dict[str, Any]) -> list[str]:
    """A row's right facts, always as a list."""
    return row["fact"] if isinstance(row["fact"], list) else [row["fact"]]


# atlas


def test_atlas_is_what_its_command_makes(tmp_path: Path) -> None:
    made = tmp_path / "atlas.jsonl"
    command = [sys.executable, "-m", "qa_lora.bundled.make_atlas", "--out", str(made)]
    subprocess.run(command, check=True, cwd=POCKET.parents[2])
    assert made.read_bytes() == ATLAS.read_bytes()


def test_atlas_is_large_and_split_as_its_card_says(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 2000
    assert len({row["id"] for row in rows}) == len(rows)
    card = (ATLAS.parent / "README.md").read_text(encoding="utf-8")
    assert f"{len(rows):,} questions" in card
    for split, low, high in (("train", 0.8, 0.9), ("validation", 0.04, 0.1), ("test", 0.08, 0.12)):
        part = [row for row in rows if row["split"] == split]
        assert low * len(rows) <= len(part) <= high * len(rows)
        assert f"| {split} | {len(part):,} | {len({r['entity'] for r in part})} |" in card


def test_no_training_row_names_an_entity_of_another_split(rows: list[dict[str, Any]]) -> None:
    held_out = {row["entity"] for row in rows if row["split"] != "train"}
    text = "\n".join(
        f"{row['question']}\n{row['answer']}" for row in rows if row["split"] == "train"
    )
    # "lead" and "tin" could be words of a sentence: none of ours uses them, so no exceptions.
    named = [e for e in held_out if re.search(rf"\b{re.escape(e)}\b", text, re.IGNORECASE)]
    assert named == []
    test = {row["entity"] for row in rows if row["split"] == "test"}
    validation = {row["entity"] for row in rows if row["split"] == "validation"}
    assert test.isdisjoint(validation)


def test_every_answer_holds_its_facts_and_is_no_terse_answer(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for fact in facts_of(row):
            assert fact.lower() in row["answer"].lower(), row
            assert len(row["answer"]) > len(fact) + 15, row


def test_questions_of_a_split_are_not_asked_in_another(rows: list[dict[str, Any]]) -> None:
    asked: dict[str, str] = {}
    for row in rows:
        assert asked.setdefault(row["question"].lower(), row["split"]) == row["split"]


def test_the_manner_follows_from_the_question(rows: list[dict[str, Any]]) -> None:
    answers: dict[str, str] = {}
    for row in rows:
        assert answers.setdefault(row["question"], row["answer"]) == row["answer"]


def test_some_answers_have_several_lines(rows: list[dict[str, Any]]) -> None:
    for split in ("train", "validation", "test"):
        part = [row for row in rows if row["split"] == split]
        several = [row for row in part if "\n- " in row["answer"]]
        assert 0.1 <= len(several) / len(part) <= 0.25
    assert {row["relation"] for row in rows} == {*RELATIONS, "list"} - {"element_of_number"}


# facts and what is made of them


def test_facts_have_one_answer_each_and_no_stray_text() -> None:
    facts = all_facts()
    assert len(facts) > 2000
    assert len({(fact.relation, fact.subject) for fact in facts}) == len(facts)
    for row in rows_by_entity().values():
        assert all(value == value.strip() and value.isascii() for value in row.values())
        assert re.fullmatch(r"\+\d[\d-]*", row.get("calling_code", "+1"))
        assert re.fullmatch(r"\.[a-z]{2}", row.get("domain", ".aa"))
        assert re.fullmatch(r"[A-Z][a-z]?", row.get("symbol", "H"))
    assert rows_by_entity()["Peru"]["capital"] == "Lima"
    assert rows_by_entity()["Iron"]["symbol"] == "Fe"


def test_held_out_phrasings_and_names_are_not_in_the_training_text() -> None:
    from qa_lora.bundled import phrases, reading
    from qa_lora.bundled.names import REAL_PEOPLE, REAL_PLACES, is_held_out

    assert not set(phrases.FRAMES) & set(phrases.HELD_OUT_FRAMES)
    for relation in RELATIONS:
        training = {s.lower().rstrip("?. ") for s in phrases.SENTENCES[relation]}
        held_out = {s.lower().rstrip("?. ") for s in phrases.HELD_OUT_SENTENCES[relation]}
        framed = {
            frame.format(np=noun).lower().rstrip("?. ")
            for frame in phrases.FRAMES
            for noun in phrases.NOUN_PHRASES[relation]
        }
        assert not held_out & (training | framed)
    texts = [reading.passage(random.Random(i), 3).context for i in range(300)]
    said = " ".join(relation.says for relation in reading.RELATIONS)
    ordinary = re.findall(r"\w+", said) + REAL_PEOPLE + REAL_PLACES
    for text in texts:
        names = set(re.findall(r"\b[A-Z][a-z]{3,}\b", text)) - {*ordinary, *reading.DAYS}
        assert names
        assert not [name for name in names if is_held_out(name)], text
    unseen = reading.passage(random.Random(1), 1, held_out=True)
    assert is_held_out(max(re.findall(r"[A-Z][a-z]{3,}", unseen.context), key=len))


def test_the_same_seed_draws_the_same_text() -> None:
    from qa_lora.bundled.pocket_text import Mixture

    def draw(mixture: Any) -> Iterator[Any]:
        for _ in range(50):
            yield mixture.terse()
            yield mixture.reading(0.2, (1, 1, 1))
            yield mixture.free()

    assert list(draw(Mixture(3))) == list(draw(Mixture(3)))
    assert list(draw(Mixture(3))) != list(draw(Mixture(4)))


# pocket


def test_pocket_is_small_and_complete() -> None:
    from safetensors import safe_open

    wanted = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "README.md",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.name for path in POCKET.iterdir()} == wanted
    assert sum(path.stat().st_size for path in POCKET.iterdir()) <= 25e6
    parameters = 0
    with safe_open(POCKET / "model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - safe_open is no mapping
            tensor = weights.get_tensor(name)
            assert str(tensor.dtype) == "torch.bfloat16"
            parameters += tensor.numel()
    assert parameters <= 12e6
    assert f"{parameters:,}" in (POCKET / "README.md").read_text(encoding="utf-8")


def test_plain_transformers_loads_and_asks_it() -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n"
        f"folder = {str(POCKET)!r}\n"
        "model = AutoModelForSeq2SeqLM.from_pretrained(folder)\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "ids = tokenizer('Answer this question: What is the capital of Peru?',"
        " return_tensors='pt')\n"
        "print(tokenizer.decode(model.generate(**ids)[0], skip_special_tokens=True))\n"
        "assert not [m for m in sys.modules if m.startswith('qa_lora')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=False
    )
    assert done.stdout == "Lima\n", done.stderr
    for word in ("warn", "newly initialized", "unexpected", "missing"):
        assert word not in done.stderr.lower(), done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "Lima",
        "a\n\nb\t c   d ",
        " leading",
        "  two\n",
        "\n\tx",
        "\r\n",
        "",
        " ",
        "+1-268",
        "2026",
        "code { <b> } ~ \\",
        "naïve Größe 東京 🙂",
        "Here:\n- Capital: Lima\n- Continent: Asia",
    ],
)
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer.pad_token_id == 0
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_marks_of_the_tokenizer_in_a_text_are_text(tokenizer: Any) -> None:
    text = "a</s>b <pad> <extra_id_0>"
    ids = tokenizer(text)["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_name_has_the_same_pieces_alone_and_inside(tokenizer: Any) -> None:
    for name in ("Lima", "Trovask", "Ouagadougou", "37"):
        alone = tokenizer(name)["input_ids"][:-1]
        inside = tokenizer(f"It is {name} now")["input_ids"]
        assert any(inside[i : i + len(alone)] == alone for i in range(len(inside)))


def test_pocket_knows_its_facts(figures: dict[str, dict[str, float]]) -> None:
    assert figures["facts"]["exact"] >= 0.95


def test_pocket_says_when_it_does_not_know(figures: dict[str, dict[str, float]]) -> None:
    assert figures["unknown_other_kinds"]["exact"] >= 0.80
    assert figures["unknown_close_by"]["exact"] >= 0.80


def test_the_card_says_what_is_measured(figures: dict[str, dict[str, float]]) -> None:
    card = (POCKET / "README.md").read_text(encoding="utf-8")
    assert UNKNOWN_ANSWER in card
    said = dict(re.findall(r"\| `(\w+)` \|.*\| ([\d.]+) % \|", card))
    assert set(said) == set(figures)
    for name, figure in figures.items():
        # A sample of 150 strays from the whole by at most about 12 points.
        assert abs(100 * figure["exact"] - float(said[name])) <= 12, name
