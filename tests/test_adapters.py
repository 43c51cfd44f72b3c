"""Adapters: what is saved is what is loaded, by us and by plain peft, and nothing unsafe is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

import qa_lora.models as models
from qa_lora.adapters import (
    ADAPTER_WEIGHTS,
    attach_adapter,
    attach_lora,
    count_parameters,
    linear_names,
    save_adapter,
    training_mode,
)
from qa_lora.card import adapter_card
from qa_lora.checksums import CHECKSUMS
from qa_lora.config import TrainConfig
from qa_lora.errors import ModelError
from qa_lora.models import LoadedModel, load_base
from qa_lora.prompts import PromptTemplate

VARIANTS: list[dict[str, Any]] = [
    {},
    {"target_modules": "all-linear"},
    {"target_modules": " wi_0 , wo"},
    {"use_rslora": True, "r": 3},
    {"use_dora": True},
]
ANSWERS = torch.tensor([[5, 9, 1], [7, 1, 1]])
QUESTIONS = torch.tensor([[20, 30, 40, 1], [50, 60, 70, 1]])


def fresh(model: object) -> LoadedModel:
    return load_base(str(model), precision="fp32", device=torch.device("cpu"))


def lora(base: Any, **settings: Any) -> PeftModel:
    defaults = {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": "q,v"}
    return attach_lora(base, **{**defaults, **settings})


def trained(base: Any, **settings: Any) -> PeftModel:
    """An adapter whose weights are not those of the start."""
    model = lora(base, **settings)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def save(model: PeftModel, folder: Path, tokenizer: Any, card: str = "# Mine\n") -> Path:
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    template = PromptTemplate(prompt="Q: {question}")
    save_adapter(model, folder, tokenizer=tokenizer, template=template, card=card, weights=weights)
    return folder


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=QUESTIONS, labels=ANSWERS).logits


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    loaded = fresh(tiny_model)
    return save(trained(loaded.model), tmp_path / "adapter", loaded.tokenizer)


def refusal(base: Any, folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        attach_adapter(base, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_a_saved_adapter_gives_the_same_outputs(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    loaded = fresh(tiny_model)
    base_logits = logits(loaded.model)
    model = trained(loaded.model, **settings)
    tuned_logits = logits(model)
    assert not torch.equal(tuned_logits, base_logits)
    folder = save(model, tmp_path / "adapter", loaded.tokenizer)

    ours = attach_adapter(fresh(tiny_model).model, folder)
    assert count_parameters(ours)[0] == 0 and not ours.training
    assert torch.equal(logits(ours), tuned_logits)
    with ours.disable_adapter():
        assert torch.equal(logits(ours), base_logits)

    from transformers import AutoModelForSeq2SeqLM

    plain = AutoModelForSeq2SeqLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert torch.equal(logits(PeftModel.from_pretrained(plain, folder).eval()), tuned_logits)


def test_a_trainable_adapter_can_be_trained_on(tiny_model: Path, adapter: Path) -> None:
    model = attach_adapter(fresh(tiny_model).model, adapter, trainable=True)
    assert model.training
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, _ in model.named_parameters() if "lora_" in n
    }


def test_a_fresh_adapter_changes_nothing_and_alone_can_be_trained(tiny_model: Path) -> None:
    base = fresh(tiny_model).model
    before, everything = logits(base), count_parameters(base)[1]
    model = lora(base).eval()
    assert torch.equal(logits(model), before)
    trainable, total = count_parameters(model)
    # q and v of two encoder and two decoder layers, the latter with cross-attention: 12 matrices.
    assert trainable == 12 * 4 * (32 + 32) and total == everything + trainable


def test_the_notebooks_adapter_has_the_notebooks_size() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    shape = {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16}
    config = TrainConfig.build("Notebook")
    with torch.device("meta"):
        base = T5ForConditionalGeneration(
            T5Config(vocab_size=32_128, feed_forward_proj="gated-gelu", **shape)
        )
        model = attach_lora(
            base,
            r=config.lora_r,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            target_modules=config.target_modules,
        )
    trainable, total = count_parameters(model)
    assert trainable == 2_359_296
    assert total + 32_128 * 1024 == 785_509_376  # FLAN-T5 does not share its head


@pytest.mark.parametrize(
    ("target_modules", "missing"),
    [
        ("q,query", "query"),
        ("lm_head", "lm_head"),
        ("decoder.block.0.layer.0.SelfAttention.q", "decoder.block.0.layer.0.SelfAttention.q"),
        ("all-linear,nose", "nose"),
        ("Q", "Q"),
        (" , ", "an empty name"),
    ],
)
def test_a_target_that_matches_nothing(tiny_model: Path, target_modules: str, missing: str) -> None:
    with pytest.raises(ModelError) as caught:
        lora(fresh(tiny_model).model, target_modules=target_modules)
    assert str(caught.value) == (
        f"The LoRA target {missing} matches no linear layer of this model. "
        "Its linear layers are q, k, v, o, wi_0, wi_1, wo; all-linear takes them all."
    )


def test_all_linear_is_every_linear_layer_but_the_head(tiny_model: Path) -> None:
    model = lora(fresh(tiny_model).model, target_modules="all-linear")
    adapted = {
        n.split(".lora_A")[0].rpartition(".")[2] for n in model.state_dict() if "lora_A" in n
    }
    assert adapted == set(linear_names(fresh(tiny_model).model))


def test_scaling_is_alpha_over_rank_or_its_root(tiny_model: Path) -> None:
    for rslora, expected in ((False, 8 / 4), (True, 8 / 2)):
        model = lora(fresh(tiny_model).model, use_rslora=rslora)
        scales = {
            module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")
        }
        assert scales == {expected}


@pytest.mark.parametrize("base_dropout", [False, True])
def test_dropout_of_the_adapter_is_on_and_that_of_the_base_as_asked(
    tiny_model: Path, base_dropout: bool
) -> None:
    model = lora(fresh(tiny_model).model).eval()
    training_mode(model, base_dropout=base_dropout)
    dropouts = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
    of_adapter = {n for n in dropouts if "lora_dropout" in n}
    assert of_adapter and all(dropouts[n].training for n in of_adapter)
    assert {dropouts[n].training for n in dropouts if n not in of_adapter} == {base_dropout}


def test_the_folder_holds_what_others_need_and_no_place_of_this_machine(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "POCKET", tiny_model)
    config = TrainConfig.build(model="pocket", data=str(tmp_path / "secret" / "mine.csv"))
    loaded = fresh("pocket")
    folder = save(
        trained(loaded.model), tmp_path / "adapter", loaded.tokenizer, adapter_card(config)
    )
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) >= {"adapter_config.json", ADAPTER_WEIGHTS, "tokenizer.json", "prompt.json"}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    places = {str(tmp_path), str(tiny_model), str(Path.home()), str(Path(models.__file__).parent)}
    for name, content in files.items():
        for place in places - {"/"}:
            # Short enough to stand in any file by chance, such as /root in a tokenizer.
            if len(place) > 8:
                assert place.encode() not in content, name
    written = json.loads(files["adapter_config.json"])
    assert written["base_model_name_or_path"] == "pocket" and written["inference_mode"] is True
    assert b"mine.csv" in files["README.md"]
    assert PromptTemplate.load(folder) == PromptTemplate(prompt="Q: {question}")
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(folder)
    assert again("blue é\n").input_ids == loaded.tokenizer("blue é\n").input_ids


def test_saving_replaces_the_adapter_before(tiny_model: Path, adapter: Path) -> None:
    (adapter / "left-over.txt").write_text("of an older version")
    loaded = fresh(tiny_model)
    model = trained(loaded.model, r=2)
    save(model, adapter, loaded.tokenizer)
    assert not (adapter / "left-over.txt").exists()
    assert torch.equal(logits(attach_adapter(fresh(tiny_model).model, adapter)), logits(model))


def test_an_adapter_that_cannot_be_saved_leaves_the_one_before(
    tiny_model: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in adapter.iterdir()}
    loaded = fresh(tiny_model)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PromptTemplate, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save(trained(loaded.model, r=2), adapter, loaded.tokenizer)
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == before
    assert [path.name for path in adapter.parent.iterdir()] == ["adapter"]


def test_a_folder_without_an_adapter(tiny_model: Path, tmp_path: Path) -> None:
    assert refusal(fresh(tiny_model).model, tmp_path) == (
        f"There is no adapter in {tmp_path}. An adapter folder holds adapter_config.json."
    )


def test_a_pickled_adapter_is_refused_unread(tiny_model: Path, adapter: Path) -> None:
    torch.save(load_file(adapter / ADAPTER_WEIGHTS), adapter / "adapter_model.bin")
    (adapter / ADAPTER_WEIGHTS).unlink()
    message = refusal(fresh(tiny_model).model, adapter)
    assert message == (
        f"The adapter in {adapter} has no adapter_model.safetensors; adapter_model.bin is a pickle, "
        "which can run code, and is not read. Save it again with save_pretrained(folder, "
        "safe_serialization=True)."
    )


def test_a_pickle_beside_safe_weights_is_not_read(tiny_model: Path, adapter: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(b"cnope\nnope\n.")
    attach_adapter(fresh(tiny_model).model, adapter)


@pytest.mark.parametrize(
    "shape", [{"d_model": 64}, {"num_layers": 3}, {"num_layers": 1}], ids=lambda s: str(s)
)
def test_an_adapter_of_another_base_is_refused(
    tiny_model: Path, adapter: Path, tmp_path: Path, shape: dict[str, int]
) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    values = json.loads((tiny_model / "config.json").read_text("utf-8")) | shape
    if "num_layers" in shape:
        values["num_decoder_layers"] = shape["num_layers"]
    T5ForConditionalGeneration(T5Config(**values)).save_pretrained(other)
    message = refusal(fresh(other).model, adapter)
    assert message.startswith(f"The adapter in {adapter} does not fit the base model {other}: ")
    assert message.endswith(f" Use it with the base model it was trained on, {tiny_model}.")
    assert ":." not in message


@pytest.mark.parametrize("change", ["missing", "unknown", "renamed"])
def test_wrong_keys_are_refused(tiny_model: Path, adapter: Path, change: str) -> None:
    weights = load_file(adapter / ADAPTER_WEIGHTS)
    name = sorted(weights)[3]
    tensor = weights[name] if change == "unknown" else weights.pop(name)
    if change != "missing":
        weights[name.replace("block.0", "block.7")] = tensor.clone()
    save_file(weights, adapter / ADAPTER_WEIGHTS)
    (adapter / CHECKSUMS).unlink()
    message = refusal(fresh(tiny_model).model, adapter)
    count = 2 if change == "renamed" else 1
    assert f"{count} of its tensors are missing or unknown, such as base_model." in message


@pytest.mark.parametrize("damage", [b"", b"not tensors", b"\xff" * 500])
@pytest.mark.parametrize("file", ["adapter_config.json", ADAPTER_WEIGHTS])
def test_a_damaged_adapter_is_refused(
    tiny_model: Path, adapter: Path, file: str, damage: bytes
) -> None:
    (adapter / file).write_bytes(damage)
    assert refusal(fresh(tiny_model).model, adapter).startswith(f"The adapter in {adapter} ")


def test_the_card_of_a_hub_model_names_it_and_of_a_folder_does_not() -> None:
    hub = adapter_card(TrainConfig.build("Notebook"))
    assert "\nbase_model: google/flan-t5-large\n" in hub
    assert 'from_pretrained("google/flan-t5-large",' in hub
    folder = adapter_card(TrainConfig.build(model="/home/someone/models/mine"))
    assert "base_model:" not in folder and "/home" not in folder
    assert 'from_pretrained("path/to/mine",' in folder


def test_the_card_survives_any_setting() -> None:
    text = adapter_card(TrainConfig.build(prompt="A | b\n## c {question}", seed=7))
    (row,) = [line for line in text.splitlines() if line.startswith("| prompt |")]
    assert row == r"| prompt | `A \| b ## c {question}` |"
    assert "| seed | `7` |" in text


def test_the_code_in_the_card_loads_the_bundled_models_adapter(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "POCKET", tiny_model)
    loaded = fresh("pocket")
    model = trained(loaded.model)
    folder = save(model, tmp_path / "adapter", loaded.tokenizer)
    code = adapter_card(TrainConfig()).split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    code = code.replace("path/to/this/folder", str(folder)).replace("=128", "=4")
    exec(code.replace("path/to/pocket", str(tiny_model)), names)
    assert torch.equal(logits(names["model"].eval()), logits(model))


def test_weights_that_are_not_what_was_saved_are_refused(tiny_model: Path, adapter: Path) -> None:
    weights = load_file(adapter / ADAPTER_WEIGHTS)
    name = sorted(weights)[0]
    save_file(weights | {name: weights[name] + 1}, adapter / ADAPTER_WEIGHTS)
    message = refusal(fresh(tiny_model).model, adapter)
    assert f"is damaged: {ADAPTER_WEIGHTS} is not what was written" in message
    (adapter / CHECKSUMS).unlink()  # as the hint says
    attach_adapter(fresh(tiny_model).model, adapter)


def test_a_changed_card_does_no_harm(tiny_model: Path, adapter: Path) -> None:
    (adapter / "README.md").write_text("mine")
    attach_adapter(fresh(tiny_model).model, adapter)


def test_the_settings_of_an_adapter_do_not_depend_on_the_order_of_a_set(adapter: Path) -> None:
    targets = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)
