"""A merged model answers as the adapter does, and needs nothing of this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from qa_lora import merging
from qa_lora.adapters import attach_lora, save_adapter
from qa_lora.answering import GenerationSettings, load
from qa_lora.bundled import POCKET
from qa_lora.card import adapter_card
from qa_lora.data.example import QAExample
from qa_lora.errors import ConfigError, ModelError, RunError
from qa_lora.loading_snippet import QUESTION, loading_snippet
from qa_lora.merging import MERGED, merge
from qa_lora.models import load_base
from qa_lora.probe_questions import bundled_probe_questions
from qa_lora.prompts import PromptTemplate
from qa_lora.whitespace import with_tokens
from tests import flan_like, lively

ADAPTERS: dict[str, dict[str, Any]] = {
    "q, v": {},
    "every layer": {"target_modules": "all-linear"},
    "feed-forward": {"target_modules": ["wi_0", "wo"]},
    "DoRA": {"use_dora": True},
    "rsLoRA": {"use_rslora": True},
    "ranks that differ": {"rank_pattern": {"q": 2}, "alpha_pattern": {"q": 32}},
    "a norm": {"modules_to_save": ["final_layer_norm"]},
    "a head": {"modules_to_save": ["lm_head"]},
    "tokens of its own": {},
}


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def base(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merging")
    flan = flan_like.make_model(folder / "flan", tied=request.param)
    return lively.make_model(flan, folder / "lively")


def make_adapter(base: Path, folder: Path, kind: str) -> Path:
    """An adapter that changes what is said; all that it trains is drawn by chance."""
    loaded = load_base(str(base), precision="fp32")
    tokenizer = loaded.tokenizer
    torch.manual_seed(3)
    if kind == "tokens of its own":
        tokenizer = with_tokens(tokenizer)
        model = attach_lora(
            loaded.model, r=4, alpha=8, dropout=0.0, target_modules="q,v", tokenizer=tokenizer
        )
    else:
        config = LoraConfig(**{"r": 4, "task_type": "SEQ_2_SEQ_LM"} | ADAPTERS[kind])
        model = get_peft_model(loaded.model, config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(0.3 * torch.randn_like(weights))
    save_adapter(
        model, folder, tokenizer=tokenizer, template=PromptTemplate(prompt="Q: {question}"),
        card="", weights={name: w for name, w in model.named_parameters() if w.requires_grad},
    )  # fmt: skip
    return folder


def questions(count: int) -> list[str]:
    words = "What is the list of first things colour tea water sugar apples how do I make".split()
    drawn = torch.randint(0, len(words), (count, 6), generator=torch.Generator().manual_seed(1))
    return [" ".join(words[i] for i in row) + "?" for row in drawn.tolist()]


def answers(model: Any, tokenizer: Any, prompts: list[str], longest: int) -> list[str]:
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    said = model.generate(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, max_new_tokens=longest
    )
    # As our own answers are shown: without space around them.
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in said]


@pytest.mark.parametrize("kind", list(ADAPTERS))
def test_greedy_answers_are_those_of_the_adapter(base: Path, tmp_path: Path, kind: str) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", kind)
    done = merge(adapter, tmp_path / "merged")
    asked = questions(24)
    answerer = load(adapter, precision="fp32")
    settings = GenerationSettings(max_new_tokens=12)
    ours = {
        at: said["tuned"].text
        for at, said in answerer.answer_many(
            [QAExample("", question, "") for question in asked],
            systems=["tuned"],
            settings=settings,
        )
    }
    tokenizer = AutoTokenizer.from_pretrained(done.folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(done.folder)
    prompts = [f"Q: {question}" for question in asked]
    theirs = answers(model, tokenizer, prompts, 12)
    assert theirs == [ours[at] for at in range(len(asked))]
    assert theirs != answers(load_base(str(base), precision="fp32").model, tokenizer, prompts, 12)
    if kind == "tokens of its own":
        assert tokenizer.decode(tokenizer("a\n\nb").input_ids[:-1]) == "a\n\nb"
    assert {p.name for p in done.folder.iterdir()} == {
        "README.md", "config.json", "generation_config.json", MERGED, "model.safetensors",
        "prompt.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    for path in done.folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_bf16_is_the_rounded_sum(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", "every layer")
    exact = merge(adapter, tmp_path / "exact")
    rounded = merge(adapter, tmp_path / "rounded", "bf16")
    assert (exact.precision, rounded.precision) == ("float32", "bfloat16")
    one, two = (AutoModelForSeq2SeqLM.from_pretrained(each.folder) for each in (exact, rounded))
    assert two.dtype == torch.bfloat16
    for (name, full), half in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(full.to(half.dtype), half), name


def test_a_merged_model_is_a_base_to_train_on(base: Path, tmp_path: Path) -> None:
    for kind in ("DoRA", "tokens of its own"):
        done = merge(make_adapter(base, tmp_path / kind, kind), tmp_path / f"{kind} merged")
        loaded = load_base(str(done.folder), precision="fp32")
        attach_lora(
            loaded.model, r=2, alpha=4, dropout=0.0, target_modules="q,v",
            tokenizer=loaded.tokenizer if kind == "DoRA" else None,
        )  # fmt: skip


def test_rows_that_cannot_be_one_matrix_are_refused(tmp_path: Path) -> None:
    """Encoder and decoder read one matrix; an adapter from elsewhere may differ in them."""
    from safetensors.torch import load_file, save_file

    from qa_lora.checksums import CHECKSUMS

    base = flan_like.make_model(tmp_path / "flan")
    adapter = make_adapter(base, tmp_path / "adapter", "tokens of its own")
    (adapter / CHECKSUMS).unlink()
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(n for n in weights if "decoder.embed_tokens" in n)
    save_file(weights | {name: weights[name] + 5}, path)
    with pytest.raises(ModelError, match=r"cannot be merged.*It still works as an adapter"):
        merge(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_what_is_in_the_way_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = flan_like.make_model(tmp_path / "flan")
    adapter = make_adapter(base, tmp_path / "adapter", "q, v")
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        merge(adapter, tmp_path / "merged", "int4")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("keep")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="is not empty, and no merged model"):
            merge(adapter, tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "note.txt").read_text() == "keep"
    with pytest.raises(RunError, match="is a file"):
        merge(adapter, tmp_path / "mine" / "note.txt")
    (tmp_path / "merged").mkdir()  # an empty folder is no obstacle
    merge(adapter, tmp_path / "merged")
    with pytest.raises(RunError, match="--overwrite"):
        merge(adapter, tmp_path / "merged")
    before = {path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(merging.PromptTemplate, "save", full)
        with pytest.raises(RunError, match="the disk is full"):
            merge(adapter, tmp_path / "merged", "bf16", overwrite=True)
        with pytest.raises(RunError, match="the disk is full"):
            merge(adapter, tmp_path / "new")
    assert {path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "flan", "merged", "mine"]
    (tmp_path / "merged" / "notes.md").write_text("my evaluation of it")
    with pytest.raises(RunError, match=r"more than the merged model, such as notes\.md"):
        merge(adapter, tmp_path / "merged", "bf16", overwrite=True)
    (tmp_path / "merged" / "notes.md").unlink()
    merge(adapter, tmp_path / "merged", "bf16", overwrite=True)
    assert json.loads((tmp_path / "merged" / MERGED).read_text())["precision"] == "bfloat16"


def test_pocket_merged_and_its_snippets_answer_alike_without_this_project(tmp_path: Path) -> None:
    adapter = make_adapter_of_pocket(tmp_path / "adapter")
    done = merge(adapter, tmp_path / "merged")
    answerer = load(adapter, precision="fp32")
    settings = GenerationSettings(max_new_tokens=24)
    asked = [QUESTION, *bundled_probe_questions().near[:7]]
    examples = [QAExample("", question, "") for question in asked]
    ours: dict[int, Any] = dict(answerer.answer_many(examples, settings=settings))
    model = AutoModelForSeq2SeqLM.from_pretrained(done.folder)
    prompts = [PromptTemplate().render(question) for question in asked]
    theirs = answers(model, AutoTokenizer.from_pretrained(done.folder), prompts, 24)
    assert theirs == [ours[at]["tuned"].text for at in range(len(asked))]
    assert theirs[0] != ours[0]["base"].text

    plain = loading_snippet("pocket", "path/to/adapter", max_new_tokens=24)
    plain = plain.replace("path/to/pocket", str(POCKET)).replace("path/to/adapter", str(adapter))
    merged = (done.folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    merged = merged.replace("path/to/merged", str(done.folder)).replace("=128", "=24")
    said = alone(tmp_path, plain, merged)
    assert said == [theirs[0], theirs[0]]


def alone(folder: Path, *codes: str) -> list[str]:
    """What each code prints in a new interpreter in which this project cannot be imported."""
    script = folder / "alone.py"
    script.write_text(
        "import sys\nsys.modules['qa_lora'] = None\n"
        + "".join(f"exec({code!r}, {{}})\nprint('---')\n" for code in codes)
        + "assert not [n for n in sys.modules if n.startswith('qa_lora.')]\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", str(script)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [part.strip() for part in done.stdout.split("---\n")[:-1]]


def make_adapter_of_pocket(folder: Path) -> Path:
    """What a few steps of training would leave: pocket's answers, said otherwise."""
    loaded = load_base("pocket", precision="fp32")
    model = attach_lora(loaded.model, r=4, alpha=8, dropout=0.0, target_modules="q,v")
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.copy_(0.7 * torch.randn_like(weights))
    save_adapter(
        model, folder, tokenizer=loaded.tokenizer, template=PromptTemplate(),
        card=adapter_card_of_pocket(),
        weights={name: w for name, w in model.named_parameters() if w.requires_grad},
    )  # fmt: skip
    return folder


def adapter_card_of_pocket() -> str:
    from qa_lora.config import TrainConfig

    return adapter_card(TrainConfig())


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        ("google/flan-t5-small", '"google/flan-t5-small"'),
        ("/home/me/models/flan", '"path/to/flan"'),
        ("./models/flan", '"path/to/flan"'),
        ("a/b/flan", '"path/to/flan"'),
        ("C:\\Users\\me\\flan", '"path/to/flan"'),
        ("pocket", '"path/to/pocket"'),
    ],
)
def test_a_snippet_shows_no_folder_of_this_machine(base: str, shown: str) -> None:
    code = loading_snippet(base, "me/mine", template=PromptTemplate(prompt='"{question}"\n'))
    assert f"from_pretrained({shown}" in code and "/home" not in code and "Users" not in code
    assert "qa_lora" not in code.replace("qa_lora/bundled", "")
    compile(code, "snippet", "exec")
