"""The data report counts what is there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from qa_lora.config import TrainConfig
from qa_lora.data import DataReport, check, load_and_split, split_examples
from qa_lora.data import tally as tally_module
from qa_lora.data.checks import check_config
from qa_lora.data.histogram import bars, token_lengths
from qa_lora.models import load_tokenizer
from qa_lora.prompts import PromptTemplate

ROWS = [
    {"question": f"question {n}", "answer": "word " * (n + 1), "split": "train"} for n in range(16)
] + [
    {"question": "Question 0?", "answer": "another", "split": "train"},
    {"question": "question 1", "answer": "word word", "split": "train"},
    {"question": "", "answer": "lost"},
    {"question": "lost"},
    {"question": "lost too", "answer": []},
    {"question": "question 30", "answer": "a " * 50, "split": "test"},
    {"question": "question 30.", "answer": ["x", "y"], "split": "train"},
]


def word_tokenizer() -> Any:
    """A token is a word."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


@pytest.fixture(scope="module")
def flan_like() -> Any:
    """A unigram tokenizer that treats space and unknown characters as T5's does."""
    known = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!'\"-éá"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0)]
    backend = Tokenizer(models.Unigram([*pieces, *((c, -5.0) for c in known)], unk_id=2))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def write(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def report_of(
    tmp_path: Path,
    rows: list[dict[str, Any]] = ROWS,
    tokenizer: Any = None,
    source: int = 8,
    target: int = 10,
    **settings: Any,
) -> DataReport:
    loaded, split = load_and_split(TrainConfig(data=write(tmp_path, rows), **settings))
    return check(
        loaded,
        split,
        tokenizer=tokenizer,
        template=PromptTemplate(),
        max_source_tokens=source,
        max_target_tokens=target,
    )


def ask(*answers: str, question: str = "What about number {}?") -> list[dict[str, Any]]:
    return [{"question": question.format(n), "answer": text} for n, text in enumerate(answers)]


def test_counts(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    assert (report.rows_read, report.rows_used, report.examples) == (23, 19, 19)
    assert [(d.reason, d.count, d.first_rows) for d in report.dropped] == [
        ("empty answer", 2, (20, 21)),
        ("empty question", 1, (19,)),
        ("train question that stands in test too", 1, (23,)),
    ]
    assert report.dropped[2].examples == ("question 30. -> x",)
    assert all(len(d.examples) == d.count for d in report.dropped)
    assert (report.questions, report.duplicates, report.several_answers) == (17, 1, 1)
    assert report.sides["test"] == {"rows": 1, "questions": 1}
    assert sum(side["rows"] for side in report.sides.values()) == 19
    assert (report.given_split, report.overlap, report.overlap_pairs) == (True, 0, ())
    assert report.columns == {"question": "question", "answer": "answer", "split": "split"}
    assert report.column_names == ("question", "answer", "split")


def test_rows_of_two_files_with_one_number_are_two(tmp_path: Path) -> None:
    asked = [{"question": f"What is thing number {n}?", "answer": f"thing {n}"} for n in range(8)]
    for name in ("train-1", "train-2", "test"):
        rows = asked if name != "test" else [*asked[:2], {"question": "Else?", "answer": "no"}]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    report = check_config(TrainConfig(data=str(tmp_path)), tokenizer=None)
    (dropped,) = report.dropped
    assert (dropped.count, dropped.first_rows) == (4, (1, 1, 2, 2))
    assert report.rows_used == report.rows_read - 4


def test_lengths_and_cuts(tmp_path: Path) -> None:
    report = report_of(tmp_path, tokenizer=word_tokenizer())
    prompts, answers = report.prompt_tokens, report.answer_tokens
    assert prompts and answers
    assert (prompts.median, prompts.longest, prompts.cut) == (5, 5, 0.0)
    # 1..16 words, "another", "word word" and 50 words
    assert (answers.median, answers.p95, answers.longest) == (8, 50, 50)
    assert answers.cut == pytest.approx(7 / 19)
    assert report.cut == answers.cut
    assert report.overlong_examples == 6  # the seventh is a test row
    assert any("raise max_target_tokens to 50" in warning for warning in report.warnings)


@pytest.mark.parametrize("limit", [1, 2, 7, 64, 255, 1000, 5000])
@pytest.mark.parametrize("longest", [1, 2, 30, 256, 4000])
def test_a_histogram_holds_every_text_and_has_the_limit_among_its_edges(
    limit: int, longest: int
) -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, longest + 1, 500).astype(np.int32)
    lengths[0] = longest
    found = token_lengths(lengths, limit)
    assert sum(found.counts) == 500 and len(found.edges) == len(found.counts) + 1 <= 28
    assert list(found.edges) == sorted(set(found.edges))
    assert (found.edges[0], found.edges[-1]) == (0, longest)
    for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False):
        assert count == ((lengths > low) & (lengths <= high)).sum()
    if longest > limit:
        assert limit in found.edges
        assert sum(found.counts[found.bins_within :]) == round(500 * found.cut) > 0
    lines = bars(found)
    assert ("┊" in lines[0]) == (longest > limit) and f"{longest:,} tokens" in lines[-1]


def test_a_tail_does_not_press_the_rest_into_one_bar() -> None:
    lengths = np.array([*range(1, 101)] * 10 + [9000], np.int32)
    for limit in (50, 20_000):
        found = token_lengths(lengths, limit)
        assert found.longest == 9000 and sum(count > 0 for count in found.counts) > 5


def test_it_can_be_read_by_people_and_machines(tmp_path: Path) -> None:
    report = report_of(tmp_path, tokenizer=word_tokenizer())
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["rows_used"] == 19
    assert plain["answer_tokens"]["limit"] == 10
    assert sum(plain["answer_tokens"]["counts"]) == 19
    assert plain["summary"] == "19 rows · 4 dropped · 37 % cut · test 1 question, no overlap"
    assert plain["warnings"] == list(report.warnings)
    text = "\n".join(report.lines())
    assert "mine.jsonl" in text and "19 of 23 used" in text
    assert "2 x empty answer (rows 20, 21)" in text
    assert "37 % cut at 10" in text
    assert all("\n" not in line for line in report.lines())


def test_without_a_tokenizer_nothing_is_said_about_tokens(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    assert report.prompt_tokens is None and report.seen == () and report.lost_characters == ()
    assert "cut" not in report.summary()
    assert "tokens" not in "\n".join(report.lines())


def test_a_small_share_is_not_rounded_to_nothing(tmp_path: Path) -> None:
    rows = [*ask(*["a"] * 399), {"question": "long", "answer": "a " * 99}]
    assert "under 1 % cut" in report_of(tmp_path, rows, word_tokenizer()).summary()


def test_sampled_rows_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ask(*["a word"] * 3000)
    report = report_of(tmp_path, rows, max_rows=2500)
    assert "of 3,000 in the source, spread evenly" in report.facts()[0].text
    monkeypatch.setattr(tally_module, "SAMPLE_CHARACTERS", 5000)
    monkeypatch.setattr(tally_module, "CHUNK", 300)
    report = report_of(tmp_path, rows, word_tokenizer(), target=1)
    assert report.sampled == 1000 and report.examples == 3000
    assert report.answer_tokens and sum(report.answer_tokens.counts) == 1000
    assert report.overlong_examples == 2700, "what a sample shows is told of all"
    assert "counted in 1,000 examples, spread evenly" in "\n".join(report.lines())


def test_a_leak_is_seen_whoever_made_the_split(tmp_path: Path) -> None:
    loaded, _ = load_and_split(TrainConfig(data=write(tmp_path, ask(*["an answer"] * 30))))
    good = split_examples(loaded.examples, validation_fraction=0.1, test_fraction=0.1, seed=0)
    leaky = dataclasses.replace(good, train=(*good.train, *good.test))
    report = check(
        loaded,
        leaky,
        tokenizer=None,
        template=PromptTemplate(),
        max_source_tokens=8,
        max_target_tokens=8,
    )
    assert report.overlap == 3
    assert "3 questions overlap" in report.summary()
    assert {(p.side, p.other_side, p.similarity) for p in report.overlap_pairs} == {
        ("train", "test", 1.0)
    }
    assert "3 questions stand on more than one side" in report.warnings[0]


def test_near_questions_are_found_and_warned_of_where_the_source_divides_them(
    tmp_path: Path,
) -> None:
    rows = [
        {"question": f"How do I {verb} my {thing}?", "answer": "Press it twice.", "split": "train"}
        for verb, thing in (
            ("water", "orchid"), ("sharpen", "chisel"), ("tune", "violin"), ("bake", "bread"),
            ("paint", "fence"), ("train", "puppy"),
        )
    ]  # fmt: skip
    rows.append({**rows[0], "question": "Please, how do I water my orchid?", "split": "test"})
    rows[-2]["split"] = "validation"
    report = report_of(tmp_path, rows)
    assert (report.overlap, report.near_overlap, report.near_duplicates) == (0, 1, 2)
    (pair,) = report.overlap_pairs
    assert (pair.side, pair.other_side) == ("train", "test") and 0.8 <= pair.similarity < 1
    assert report.near_pairs[0][:2] == (pair.question, pair.other_question)
    assert "1 pair of nearly equal questions stands on more than one side" in report.warnings[0]
    assert "near pair" in report.summary()

    for row in rows:
        row["split"] = ""
    free = report_of(tmp_path, rows, near_duplicates=0.8)
    assert (free.near_overlap, free.near_duplicates, free.overlap_pairs) == (0, 2, ())


def test_short_answers_are_counted_and_shown(tmp_path: Path) -> None:
    rows = ask("yes", "no", "ab", "It is so.", "42", "yes", "リマはペルーの首都です", "two words")
    report = report_of(tmp_path, rows)
    assert report.short_answers == 5
    assert set(report.short_examples) <= {"yes", "no", "ab", "42"}
    assert len(set(report.short_examples)) == 3
    assert any("62 % of the answers have fewer than 2 words" in w for w in report.warnings)


def test_mixed_languages_are_seen_in_texts_long_enough_to_tell(tmp_path: Path) -> None:
    english = "You hold the button for ten seconds and wait until the light turns green again."
    german = "Halten Sie die Taste zehn Sekunden lang gedrückt und warten Sie auf das grüne Licht."
    report = report_of(tmp_path, ask(*[english] * 15, *[german] * 5, *["Lima"] * 10))
    assert [(each.code, each.share) for each in report.languages] == [("en", 0.75), ("de", 0.25)]
    assert report.language_texts == 20
    assert any("(en 75 %, de 25 %)" in warning for warning in report.warnings)
    assert not any("language" in w for w in report_of(tmp_path, ask(*[english] * 20)).warnings)


def test_characters_that_do_not_come_through_are_named(tmp_path: Path, flan_like: Any) -> None:
    answers = ["one\ntwo", "a {b}", "a\tb", "a  b", "smile 😀", "½ cup™", "cafe\u0301 é", "plain"]
    report = report_of(tmp_path, ask(*answers), flan_like, source=99, target=99)
    found = {each.character: (each.effect, each.becomes) for each in report.lost_characters}
    assert found == {
        **dict.fromkeys("{}😀½", ("unknown", "")),
        **dict.fromkeys(("\n", "\t", "  "), ("changed", " ")),
        "™": ("changed", "TM"),
    }
    assert report.lost_characters[-1].character == "™", "what does no harm comes last"
    assert report.harmed == 6
    assert any("75 % of the rows hold" in w and "line break" in w for w in report.warnings)


def test_a_byte_level_tokenizer_loses_nothing(tmp_path: Path, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    rows = ask(*[f"one\n\ttwo  {{}} 😀 ™ é e\u0301 中 {n}" for n in range(5)])
    report = report_of(tmp_path, rows, tokenizer, source=500, target=500)
    assert report.lost_characters == () and report.harmed == 0


def test_what_the_model_sees_is_shown_with_what_is_cut(tmp_path: Path, flan_like: Any) -> None:
    rows = ask(*["ok then"] * 9, "one {two} three four five")
    report = report_of(tmp_path, rows, flan_like, source=99, target=12)
    cut, whole = report.seen[0], report.seen[1]
    assert cut.answer == "one {two} three four five"
    assert len(cut.label.ids) == 12 and cut.label.ids[-1] == flan_like.eos_token_id
    assert cut.label.whole_tokens > 12
    assert (cut.label.before, cut.label.after) == ("one <unk>two<unk> ", "</s>")
    assert cut.label.cut == "three four five"
    assert whole.label.cut == "" and whole.label.before == "ok then</s>"
    assert whole.input.before == f"{whole.prompt}</s>"


def test_rows_over_the_limits_can_be_told_to_be_left_out(tmp_path: Path, tiny_model: Path) -> None:
    data = write(tmp_path, ask(*["short one"] * 30, *["long " * 60] * 10))
    tokenizer = load_tokenizer(str(tiny_model))
    settings = {"data": data, "model": str(tiny_model), "max_target_tokens": 60}
    told = {}
    for overlong in ("cut", "drop"):
        config = TrainConfig.build(**settings, overlong=overlong, batch_size=1, epochs=1)
        told[overlong] = check_config(config, tokenizer=tokenizer, runs_dir=tmp_path)
    cut, drop = told["cut"], told["drop"]
    assert cut.overlong_examples == drop.overlong_examples > 0
    assert cut.needs and drop.needs and cut.needs.steps == cut.sides["train"]["rows"]
    assert cut.needs.steps - drop.needs.steps in range(1, cut.overlong_examples + 1)
    assert "set overlong to drop" in " ".join(cut.warnings)
    assert "set overlong to drop" not in " ".join(drop.warnings)
    assert "left out" in "\n".join(drop.lines())
