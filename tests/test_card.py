"""The card says what is known, says what is missing, and nothing in it acts or gives a folder away."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from qa_lora import runs
from qa_lora.base_names import base_name
from qa_lora.card import CardFacts, default_examples, gather, loss_plot, write_card
from qa_lora.card.facts import DataSource, sources_of
from qa_lora.checksums import digest_of
from qa_lora.config import TrainConfig
from qa_lora.events import Evaluated, Finished, Started, Step, to_json
from qa_lora.report import save_report
from qa_lora.secrets import find_secrets
from tests.made_reports import make_report

STARTED = Started(
    step=0, total_steps=40, trainable_parameters=1_000, all_parameters=50_000, train_rows=320,
    validation_rows=30, test_rows=32, test_fingerprint="abc123", device="CPU, 2 cores",
    precision="bf16", time=0.0,
)  # fmt: skip
FINISHED = Finished(40, "early_stopped", 1.5, 1.25, 3_725.0, 900.0)


def facts(**values: Any) -> CardFacts:
    made: dict[str, Any] = {
        "config": TrainConfig.build(model="google/flan-t5-small", seed=7),
        "sources": (DataSource("atlas", "training", None, "cc-by-4.0"),),
        "started": STARTED,
        "finished": FINISHED,
        "environment": {
            "python": "3.11.7",
            "packages": {"torch": "2.13.0"},
            "base": {"commit": "f00d"},
        },
        "report": make_report({"base": [0.1] * 12, "tuned": [0.5, 0.7] * 6}),
    }
    return CardFacts(**{**made, **values})


def read(text: str) -> Any:
    """As the Hub's client reads it."""
    return ModelCard(text).data


def test_a_full_card_says_what_a_reader_needs_to_judge() -> None:
    text = write_card(facts(), adapter="me/x", licence="mit", plot="loss.png")
    for part in (
        "# A LoRA adapter for google/flan-t5-small",
        'PeftModel.from_pretrained(base, "me/x")',
        "| atlas | training | cc-by-4.0 |",
        "320 for training, 30 for validation, 32 held out",
        "`abc123`",
        "| base | google/flan-t5-small, commit f00d |",
        "| hardware | CPU, 2 cores, bf16 |",
        "| time | 1 h 2 min |",
        "| steps | 40 of 40 \\(early stopped\\) |",
        "Python 3.11.7, torch 2.13.0",
        "](loss.png)",
        "| seed | `7` |",
        "| ROUGE-L | 0.100 | 0.600 | +0.500 |",
        "the same 12 held-out questions",
        "It was trained on 320 rows, which is little",
        "state wrong facts",
    ):
        assert part in text, part
    data = read(text)
    assert (data.base_model, data.base_model_relation) == ("google/flan-t5-small", "adapter")
    assert (data.license, data.library_name) == ("mit", "peft")
    assert data.model_name == "x" and "qa-lora" in data.tags
    values = {result.metric_name: result.metric_value for result in data.eval_results}
    assert values["ROUGE-L"] == 0.6
    assert all(result.dataset_split == "test" for result in data.eval_results)


def test_data_sets_of_the_hub_are_named_to_the_hub() -> None:
    hub = DataSource("org/qa", "training", "org/qa", None)
    text = write_card(facts(sources=(hub,)))
    assert "| [org/qa](https://huggingface.co/datasets/org/qa) | training | unknown |" in text
    data = read(text)
    assert data.datasets == ["org/qa"]
    assert {result.dataset_type for result in data.eval_results} == {"org/qa"}


def test_what_is_missing_is_said() -> None:
    text = write_card(facts(report=None))
    assert "This adapter was not scored: how good its answers are is not known." in text
    assert read(text).eval_results is None and "license" not in text.split("\n---\n")[0]
    assert "not scored since its training went on" in write_card(facts(report=None, stale=True))


def test_nothing_of_the_data_acts_as_markup() -> None:
    evil = "</div><script>alert(1)</script> | ```\n# Big\n![x](http://evil/p.png) [a](b) `c`"
    report = make_report({"base": [0.1] * 6, "tuned": [0.9] * 6}, text=evil)
    source = DataSource("a|b<script>.csv", "training", None, "<b>mine</b>")
    config = TrainConfig.build(model="x/y", prompt=f"{evil} {{question}}")
    text = write_card(facts(report=report, sources=(source,), config=config))
    fence = ""
    for line in text.split("\n---\n", 1)[1].splitlines():
        if not fence and line.startswith("```"):
            fence = line.rstrip("abcdefghijklmnopqrstuvwxyz")
        elif fence and line == fence:
            fence = ""
        elif not fence and "script>" in line.replace("\\<script\\>", ""):
            assert line.startswith("| prompt | ``")  # within a code span
    assert not fence and text.count("\n# ") == 1
    assert "a\\|b\\<script\\>.csv" in text and read(text).model_name


def test_examples_with_secrets_are_left_out() -> None:
    report = make_report({"base": [0.1] * 6, "tuned": [0.9] * 6}, text="/home/someone/x says")
    text = write_card(facts(report=report))
    assert "### Some answers" not in text and find_secrets("README.md", text.encode()) == []
    open_report = make_report({"base": [0.1] * 6, "tuned": [0.9] * 6})
    assert write_card(facts(report=open_report)).count("```text") == 3
    assert "### Some answers" not in write_card(facts(report=open_report), examples=0)


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("pocket", "pocket"),
        ("/usr/lib/python3/site-packages/qa_lora/bundled/pocket", "pocket"),
        ("google/flan-t5-small", "google/flan-t5-small"),
        ("/home/me/models/mine", "mine"),
        ("~/models/mine", "mine"),
        ("C:\\models\\mine", "mine"),
        ("/c/hub/models--google--flan-t5-base/snapshots/0123", "google/flan-t5-base"),
    ],
)
def test_a_base_is_named_without_its_folder(base: str, name: str) -> None:
    assert base_name(base) == name


def test_sources_are_named_without_folders_and_with_their_licence(tmp_path: Path) -> None:
    folder = tmp_path / "licensed"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    (folder / "a.csv").write_text("question,answer\na,b\n")
    config = TrainConfig.build(data=f"atlas\n{folder}", test_data="/gone/away.csv")
    assert sources_of(config) == (
        DataSource("atlas", "training", None, "cc-by-4.0"),
        DataSource("licensed", "training", None, "cc0-1.0", here=True),
        DataSource("away.csv", "test", here=True),
    )


def test_a_run_is_read_and_old_scores_do_not_count(tmp_path: Path) -> None:
    run = runs.create(TrainConfig.build(model="x/y"), tmp_path)
    events = [STARTED, Step(1, 0.1, 2.0, 0.1, 1, 1, 1, 1, 1), Evaluated(1, 1.9, 6.7), FINISHED]
    run.events_path.write_text("".join(f"{to_json(event)}\n" for event in events))
    run.adapter.mkdir()
    weights = run.adapter / "adapter_model.safetensors"
    weights.write_bytes(b"x")
    save_report(make_report({"base": [0.1] * 6, "tuned": [0.9] * 6}), run.evaluations_dir)
    other = dataclasses.replace(make_report({"base": [0.1], "tuned": [0.2]}), split="train")
    save_report(other, run.evaluations_dir)

    found = gather(run)
    assert found.report is not None and found.report.split == "test"
    assert found.losses == ((1, 2.0),) and found.validation == ((1, 1.9),)
    assert found.finished == FINISHED and found.run == run.id
    later = weights.stat().st_mtime + 3600
    os.utime(weights, (later, later))
    found = gather(run)
    assert found.report is None and found.stale


def test_the_scores_that_say_most_are_taken(tmp_path: Path) -> None:
    run = runs.create(TrainConfig.build(model="x/y", data="atlas"), tmp_path)
    run.adapter.mkdir()
    weights = run.adapter / "adapter_model.safetensors"
    weights.write_bytes(b"x")

    def scored(rows: int, *, digest: str = digest_of(weights), data: str = "atlas", **values: Any):
        made = make_report({"base": [0.1] * rows, "tuned": [0.9] * rows})
        settings = made.settings | {"data": data, "adapter_digests": {"tuned": digest}}
        report = dataclasses.replace(made, settings=settings, **values)
        return save_report(report, run.evaluations_dir).number

    scored(30, digest="0" * 64)  # of an older adapter, however new its file is
    assert gather(run).report is None and gather(run).stale
    validation = scored(40, split="validation")
    assert gather(run).report.number == validation
    scored(50, data="someone/else")
    cut_short = scored(25, complete=False, asked=60)
    assert gather(run).report.number == cut_short
    whole = scored(20)
    scored(4)  # a quick look afterwards
    assert gather(run).report.number == whole
    again = scored(20)
    assert gather(run).report.number == again
    # A copy of the run: times say nothing.
    later = weights.stat().st_mtime + 3600
    os.utime(weights, (later, later))
    assert gather(run).report.number == again
    weights.write_bytes(b"trained on")
    os.utime(weights, (0, 0))
    assert gather(run).report is None and gather(run).stale


def test_scores_are_named_after_the_questions_that_were_asked(tmp_path: Path) -> None:
    config = TrainConfig.build(model="x/y", data="someone/chats", test_data="someone/exam")
    both = facts(config=config, sources=sources_of(config))
    assert [source.name for source in both.scored_on] == ["atlas"]  # the report says so
    report = make_report({"base": [0.1] * 6, "tuned": [0.9] * 6})

    def told(split: str, data: str) -> tuple[str, str, str]:
        made = dataclasses.replace(report, split=split, settings={"data": data})
        text = write_card(dataclasses.replace(both, report=made), adapter="me/x")
        (result, *_) = read(text).eval_results
        return result.dataset_name, result.dataset_type, text

    assert told("test", "someone/chats")[:2] == ("someone/exam", "someone/exam")
    assert told("validation", "someone/chats")[:2] == ("someone/chats", "someone/chats")
    name, kind, text = told("file", "exam.csv")
    assert (name, kind) == ("exam.csv", "questions-and-answers")
    assert "questions of exam\\.csv, none of which" in text.replace("exam.csv,", "exam\\.csv,")
    assert "### Some answers" not in text and "### Some answers" in told("test", "atlas")[2]


def test_what_a_person_typed_or_keeps_here_is_not_shown_unasked(tmp_path: Path) -> None:
    data = tmp_path / "customers.csv"
    data.write_text("question,answer\nwhy,because\n")
    config = TrainConfig.build(
        model="x/y", data=str(data), probe_questions=["Where does Ada live?"]
    )
    mine = facts(
        config=config, sources=sources_of(config),
        report=make_report({"base": [0.1] * 6, "tuned": [0.9] * 6}, settings={"data": str(data)}),
    )  # fmt: skip
    card = write_card(mine, adapter="me/x")
    assert "Ada" not in card and "Some answers" not in card and str(tmp_path) not in card
    assert "customers.csv" in card.replace("\\", "")
    assert "### Some answers" in write_card(mine, adapter="me/x", examples=2)
    assert default_examples(facts()) == 3


def test_the_plot_is_a_picture_of_all_lengths() -> None:
    assert loss_plot([], []) is None
    assert loss_plot([(1, float("nan"))], []) is None
    for count in (1, 2, 5_000):
        losses = [(step, 3.0 / step) for step in range(1, count + 1)]
        made = loss_plot(losses, [(count, 1.0)])
        assert made is not None and made == loss_plot(losses, [(count, 1.0)])
        assert Image.open(io.BytesIO(made)).size == (1440, 640) and len(made) < 60_000
