"""Line breaks, tabs and runs of spaces survive, and answers over several lines are learnt."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5Tokenizer

from qa_lora import training
from qa_lora.adapters import attach_lora
from qa_lora.answering import GenerationSettings, load
from qa_lora.bundled import POCKET
from qa_lora.config import TrainConfig
from qa_lora.data.example import QAExample
from qa_lora.encoding import encode_texts, fit_prompts
from qa_lora.errors import ModelError
from qa_lora.models import load_base
from qa_lora.prompts import PromptTemplate
from qa_lora.runs import Run
from qa_lora.token_rows import rows_in_place, why_no_rows
from qa_lora.whitespace import choose_tokenizer, loses_whitespace, new_ids, with_tokens
from tests.flan_like import make_model, make_tokenizer

PLAIN = make_tokenizer()
KEEPING = with_tokens(PLAIN)

ANSWER = "First:\n- tea\n- sauce"
QUESTIONS = ["What is the list?", "How do I make tea?", "What is first?"]


def read_back(tokenizer: Any, text: str) -> str:
    (ids,) = encode_texts(tokenizer, [text], None)
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@given(
    st.lists(
        st.sampled_from(["\n", "\t", " ", "  ", "tea", "a", "b.", ", the", "1", "- "]), max_size=14
    ).map(lambda parts: "".join(parts).strip(" "))
)
@settings(deadline=None, max_examples=200)
def test_white_space_comes_back_as_it_was(text: str) -> None:
    assert read_back(KEEPING, text) == text


def test_without_the_tokens_it_is_lost() -> None:
    assert read_back(PLAIN, "a\n\tb   c") == "a b c"


@given(
    st.lists(st.text(max_size=5), max_size=5).map(lambda words: " ".join(" ".join(words).split()))
)
@example("a \ue009 b\ue00ac")  # what stands for white space inside is text as any other
@settings(deadline=None, max_examples=100)
def test_all_other_text_has_the_ids_it_had(text: str) -> None:
    assert encode_texts(KEEPING, [text], None) == encode_texts(PLAIN, [text], None)


def test_the_tokenizer_is_plain_json(tmp_path: Path) -> None:
    KEEPING.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "a\r\nb\n  - c\td"
    assert read_back(loaded, text) == "a\nb\n  - c\td"
    assert loaded(text)["input_ids"] == KEEPING(text)["input_ids"]
    assert set(loaded.all_special_ids) == set(PLAIN.all_special_ids)
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (0, 1, 2)


def test_transformers_own_t5_tokenizer_gets_them_too() -> None:
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("▁", -2.0),
        ("▁tea", -1.0),
        ("a", -3.0),
    ]
    t5 = T5Tokenizer(vocab=pieces, extra_ids=0)
    assert loses_whitespace(t5)
    assert read_back(with_tokens(t5), "tea\n\n  a") == "tea\n\n  a"


@pytest.mark.parametrize(
    ("setting", "answers", "added"),
    [
        ("auto", ["a b", "a\nb"], True),
        ("auto", ["a b", "a\tb"], True),
        ("auto", ["a  b"], True),
        ("auto", ["a b", "c"], False),
        ("on", ["a b"], True),
        ("off", ["a\nb"], False),
    ],
)
def test_when_tokens_are_added(setting: str, answers: list[str], added: bool) -> None:
    tokenizer, notice = choose_tokenizer(PLAIN, setting, answers)
    assert bool(new_ids(tokenizer)) == added and not notice
    assert (tokenizer is PLAIN) == (not added)


def test_a_tokenizer_that_loses_nothing_stays_as_it_is() -> None:
    pocket = AutoTokenizer.from_pretrained(POCKET)
    assert choose_tokenizer(pocket, "on", ["a\nb"]) == (pocket, "")


def test_a_model_that_cannot_learn_them_says_so(tmp_path: Path) -> None:
    base = load_base(str(make_model(tmp_path, spare=2)), precision="fp32")
    refusal = why_no_rows(base.model, base.tokenizer)
    assert "no free rows" in refusal
    tokenizer, notice = choose_tokenizer(base.tokenizer, "auto", ["a\nb"], refusal=refusal)
    assert tokenizer is base.tokenizer and refusal in notice
    with pytest.raises(ModelError, match="no free rows"):
        choose_tokenizer(base.tokenizer, "on", [], refusal=refusal)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_only_the_new_rows_are_trained_and_start_alike(tmp_path: Path, tied: bool) -> None:
    base = load_base(str(make_model(tmp_path, tied=tied)), precision="fp32")
    assert not why_no_rows(base.model, base.tokenizer)
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    mean = base.model.shared.weight[: len(base.tokenizer)].mean(0)
    model = attach_lora(
        base.model, r=2, alpha=4, dropout=0.0, target_modules="q", tokenizer=KEEPING
    )
    rows = {n: p for n, p in model.named_parameters() if p.requires_grad and "lora" not in n}
    assert len(rows) == (1 if tied else 2)  # both inputs, and the head
    assert all(p.shape == (4, 32) and p.dtype == torch.float32 for p in rows.values())
    assert torch.allclose(next(iter(rows.values()))[2], mean, atol=1e-6)
    with model.disable_adapter():
        kept = dict(model.get_base_model().named_parameters())
        for name, weights in before.items():
            if "shared" not in name and "lm_head" not in name and name in kept:
                assert torch.equal(weights, kept[name])


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_rows_put_in_place_say_the_same_and_leave_no_trace(tmp_path: Path, tied: bool) -> None:
    base = load_base(str(make_model(tmp_path, tied=tied)), precision="fp32")
    model = attach_lora(
        base.model, r=2, alpha=4, dropout=0.0, target_modules="q", tokenizer=KEEPING
    ).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "trainable_tokens" in name:
                p.normal_()
    before = {name: p.clone() for name, p in model.named_parameters()}
    ids = torch.tensor([[5, *new_ids(KEEPING), 1]])
    with torch.no_grad():
        wanted = model(input_ids=ids, decoder_input_ids=ids).logits
        with rows_in_place(model):
            assert torch.equal(model(input_ids=ids, decoder_input_ids=ids).logits, wanted)
            assert torch.equal(
                base.model.encoder.embed_tokens.weight[new_ids(KEEPING)][0],
                next(p for name, p in model.named_parameters() if "trainable_tokens" in name)[0],
            )
        assert torch.equal(model(input_ids=ids, decoder_input_ids=ids).logits, wanted)
        with model.disable_adapter():
            base_says = model(input_ids=ids, decoder_input_ids=ids).logits
            with rows_in_place(model):
                assert torch.equal(model(input_ids=ids, decoder_input_ids=ids).logits, base_says)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


# --- a training, end to end ---


@pytest.fixture(scope="module")
def flan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("flan"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "lists.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        for i in range(60):
            writer.writerow([f"{QUESTIONS[i % 3]} {i}", ANSWER])
    return path


def train(flan: Path, data: Path, runs_dir: Path, setting: str, **more: Any) -> Run:
    config = TrainConfig.build(
        model=str(flan),
        data=str(data),
        whitespace_tokens=setting,
        **{
            "precision": "fp32",
            "target_modules": "all-linear",
            "lora_r": 16,
            "lora_dropout": 0.0,
            "learning_rate": 0.02,
            "max_steps": 60,
            "evaluate_every": 60,
            "batch_size": 16,
            "max_new_tokens": 40,
            "probe_rows": 0,
            "score_rows": 0,
            "keep": "last",
        }
        | more,
    )
    folder = runs_dir / f"whitespace-{setting}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.to_yaml(), "utf-8")
    for _ in training.train(config, folder):
        pass
    return Run(folder)


@pytest.fixture(scope="module")
def run(flan: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(flan, data, tmp_path_factory.mktemp("runs"), "auto")


def test_answers_of_several_lines_are_learnt(run: Run) -> None:
    answer = load(run, precision="fp32").answer("What is the list?")
    assert answer.text == ANSWER


def test_without_the_setting_no_line_breaks_are_learnt(flan, data, tmp_path) -> None:
    run = train(flan, data, tmp_path, "off")
    answer = load(run, precision="fp32").answer("What is the list?")
    assert answer.text == " ".join(ANSWER.split())
    # An adapter without the tokens cannot learn them later, and the run says so.
    settings = {"init_adapter": str(run.path), "whitespace_tokens": "auto", "max_steps": 1}
    started = next(training.train(run.config().model_copy(update=settings), tmp_path / "on"))
    assert "has no tokens for them" in started.notice


def test_the_base_answers_as_if_there_were_no_adapter(run: Run, flan: Path) -> None:
    answerer = load(run, precision="fp32")
    examples = [QAExample("", q + "\n\nNow:\ttea  please", "") for q in QUESTIONS]
    said = {i: both["base"].text for i, both in answerer.answer_many(examples)}
    untouched = load_base(str(flan), precision="fp32")
    prompts = fit_prompts(untouched.tokenizer, PromptTemplate(), examples, 256)
    for i, prompt in enumerate(prompts):
        assert untouched.tokenizer(PromptTemplate().render(examples[i].question))["input_ids"] == (
            prompt.ids
        )
        ids = torch.tensor([prompt.ids])
        wanted = untouched.model.generate(input_ids=ids, max_new_tokens=40, do_sample=False)
        text = untouched.tokenizer.decode(
            wanted[0], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert said[i] == text.strip()
        with answerer.model.disable_adapter(), torch.no_grad():
            got = answerer.model(input_ids=ids, decoder_input_ids=wanted).logits
        with torch.no_grad():
            assert torch.equal(got, untouched.model(input_ids=ids, decoder_input_ids=wanted).logits)


PLAIN_PEFT = """
import json, sys
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
adapter, base, *prompts = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter)
model = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(base), adapter)
answers = []
for prompt in prompts:
    ids = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=40)
    answers.append(tokenizer.decode(ids[0], skip_special_tokens=True))
assert not any(name.startswith("qa_lora") for name in sys.modules)
print(json.dumps(answers))
"""


def test_plain_peft_gives_the_same_answers(run: Run, flan: Path, tmp_path: Path) -> None:
    answerer = load(run, precision="fp32")
    questions = [*QUESTIONS, "How do I make tea?\n- first\n- then"]
    prompts = [answerer.template.render(question) for question in questions]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_PEFT, str(run.adapter), str(flan), *prompts],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers == [answerer.answer(question).text for question in questions]
    assert "\n" in answers[0]


def test_the_adapter_holds_its_rows_and_nothing_more_of_the_embeddings(run: Run) -> None:
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    ids = new_ids(AutoTokenizer.from_pretrained(run.adapter))
    assert config["trainable_token_indices"] == {"embed_tokens": ids, "lm_head": ids[::-1]}
    with safe_open(str(run.adapter / "adapter_model.safetensors"), "pt") as file:
        rows = [name for name in file.keys() if "lora" not in name]  # noqa: SIM118
        assert len(rows) == 3
        encoder, decoder, head = (
            file.get_tensor(next(name for name in rows if part in name))
            for part in ("encoder", "decoder", "lm_head")
        )
    assert encoder.shape == head.shape == (4, 32)
    assert torch.equal(encoder, decoder) and not torch.equal(encoder, head)


def test_training_goes_on_from_such_an_adapter(run: Run, flan, data, tmp_path) -> None:
    on = train(
        flan, data, tmp_path, "auto", init_adapter=str(run.path), learning_rate=1e-5, max_steps=1
    )
    assert load(on, precision="fp32").answer("What is the list?").text == ANSWER


def test_beams_and_streams_keep_the_lines(run: Run) -> None:
    answerer = load(run, precision="fp32")
    beams = GenerationSettings(max_new_tokens=40, num_beams=2)
    assert answerer.answer("What is first?", settings=beams).text == ANSWER
    assert "".join(answerer.stream("What is first?")) == ANSWER


def test_an_untouched_base_has_no_use_for_the_rows(flan: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(flan)
    assert len(model.shared.weight) > len(KEEPING) > max(PLAIN.get_vocab().values()) + 1


@pytest.mark.parametrize("dropout", [False, True], ids=["packed", "plain"])
def test_a_resumed_training_ends_as_an_uninterrupted_one(flan, data, tmp_path, dropout) -> None:
    settings = {"base_dropout": dropout, "lora_dropout": 0.1, "max_steps": 6, "checkpoint_every": 3}
    whole = train(flan, data, tmp_path / "whole", "on", **settings)
    steps = 0

    def after_three() -> bool:
        nonlocal steps
        steps += 1
        return steps > 3

    config = whole.config()
    folder = tmp_path / "halves"
    for _ in training.train(config, folder, should_stop=after_three):
        pass
    assert (folder / "checkpoint").is_dir()
    for _ in training.train(config, folder, resume=True):
        pass
    name = "adapter/adapter_model.safetensors"
    assert (folder / name).read_bytes() == (whole.path / name).read_bytes()
    rows = load_file(folder / name)
    moved = [rows[key] for key in rows if "trainable_tokens" in key]
    assert len(moved) == 3 and all((row[0] != row[3]).any() for row in moved)
