"""Adapters from elsewhere: every source, and every refusal with its reason."""

from __future__ import annotations

import json
import pickle
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from qa_lora import adapter_archive, imported, runs
from qa_lora.adapter_settings import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from qa_lora.answering import load
from qa_lora.checksums import CHECKSUMS
from qa_lora.config import TrainConfig
from qa_lora.errors import ModelError, QALoRAError, RunError
from qa_lora.imported import imported_folder, list_imported, remove_imported
from qa_lora.importing import import_adapter
from qa_lora.locate import locate
from qa_lora.models import load_base
from qa_lora.owners import owner_of
from qa_lora.run_zip import zip_run
from tests import flan_like
from tests.lively import make_adapter, make_model
from tests.made_runs import made_run, story


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("importing") / "model")


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(model, tmp_path_factory.mktemp("importing") / "mine")


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    """A good one, to be spoilt; without checksums, as others save it."""
    folder = Path(shutil.copytree(made, tmp_path / "mine"))
    (folder / CHECKSUMS).unlink()
    return folder


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def refusal(source: str | Path, runs_dir: Path, **options: Any) -> str:
    """Why it is not taken; nothing is left of it then."""
    with pytest.raises(QALoRAError) as caught:
        import_adapter(source, runs_dir, **options)
    assert "\n" not in str(caught.value)
    assert list_imported(runs_dir) == []
    kept = runs_dir / imported.FOLDER
    assert not kept.exists() or list(kept.iterdir()) == []
    return str(caught.value)


def change(folder: Path, **settings: Any) -> None:
    path = folder / ADAPTER_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def change_weights(folder: Path, to: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / ADAPTER_WEIGHTS)
    save_file(to(weights) or weights, folder / ADAPTER_WEIGHTS)


def pack(folder: Path, archive: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(folder.iterdir()):
            opened.write(path, inside + path.name)
    return archive


# --- the sources ---


def test_a_folder_is_kept_whole_and_answers_as_before(adapter, runs_dir, model):
    (adapter / "adapter_model.bin").write_bytes(b"cnope\nnope\n.")
    (adapter / "optimizer.pt").write_bytes(b"cnope\nnope\n.")
    (adapter / "train.py").write_text("raise SystemExit")
    kept = import_adapter(adapter, runs_dir)
    assert kept == list_imported(runs_dir)[0]
    assert kept.name == f"mine-{kept.digest[:6]}" and kept.base == str(model)
    assert (kept.kind, kept.source, kept.r, kept.alpha) == ("folder", "mine", 4, 8)
    assert kept.made_of() == "r 4, alpha 8, on q, v, wo"
    assert not {"adapter_model.bin", "optimizer.pt", "train.py", "README.md"} & {
        path.name for path in kept.folder.iterdir()
    }
    found = locate(kept.name, runs_dir)
    assert (found.folder, found.base, found.run) == (kept.folder, str(model), None)
    ours = load(adapter).answer("Why is the sky blue?").text
    assert load(kept.name, runs_dir=runs_dir).answer("Why is the sky blue?").text == ours
    assert (
        ours
        != load(kept.name, runs_dir=runs_dir).answer("Why is the sky blue?", variant="base").text
    )


@pytest.mark.parametrize("inside", ["", "adapter/", "2026-run/adapter/"])
def test_a_zip_with_the_adapter_at_the_top_or_below(adapter, runs_dir, tmp_path, inside):
    archive = pack(adapter, tmp_path / "my run.zip", inside)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(f"{inside}checkpoint-5/{ADAPTER_CONFIG}", "{}")
        opened.writestr("__MACOSX/._adapter_config.json", "x")
    kept = import_adapter(archive, runs_dir)
    assert (kept.kind, kept.source) == ("zip", "my run.zip")
    assert kept.name.startswith("my-run-")
    same = kept.folder / ADAPTER_WEIGHTS
    assert same.read_bytes() == (adapter / ADAPTER_WEIGHTS).read_bytes()


def test_a_run_of_another_machine_finds_the_bundled_base_here(made, model, runs_dir, monkeypatch):
    monkeypatch.setattr("qa_lora.skeleton.POCKET_FOLDER", model)
    run = runs.create(TrainConfig.build(model="pocket"), runs_dir / "elsewhere")
    shutil.copytree(made, run.adapter)
    for named in ("pocket", "/home/someone/site-packages/qa_lora/bundled/pocket",
                  "C:\\Users\\x\\qa_lora\\bundled\\pocket"):  # fmt: skip
        change(run.adapter, base_model_name_or_path=named)
        kept = import_adapter(run.path, runs_dir, name="theirs")
        assert kept.base == "pocket"
        assert json.loads((kept.folder / ADAPTER_CONFIG).read_text())[
            "base_model_name_or_path"
        ] == "pocket"  # fmt: skip
        remove_imported("theirs", runs_dir)


@pytest.mark.parametrize("tied", [False, True])
def test_tokens_of_its_own_keep_working(tmp_path, runs_dir, tied):
    from qa_lora.adapters import attach_lora, save_adapter
    from qa_lora.prompts import PromptTemplate
    from qa_lora.whitespace import with_tokens

    base = load_base(str(flan_like.make_model(tmp_path / "flan", tied=tied)), precision="fp32")
    tokenizer = with_tokens(base.tokenizer)
    tuned = attach_lora(
        base.model, r=2, alpha=4, dropout=0.0, target_modules="q,v", tokenizer=tokenizer
    )
    save_adapter(
        tuned, tmp_path / "mine", tokenizer=tokenizer, template=PromptTemplate(), card="",
        weights={name: p for name, p in tuned.named_parameters() if p.requires_grad},
    )  # fmt: skip
    kept = import_adapter(tmp_path / "mine", runs_dir)
    assert kept.variant == "tokens of its own"
    answerer = load(kept.name, runs_dir=runs_dir)
    assert answerer.tokenizer.decode(answerer.tokenizer("a\n\nb").input_ids[:-1]) == "a\n\nb"


@pytest.mark.parametrize(
    "settings",
    [
        {"modules_to_save": ["final_layer_norm"]},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q": 2}, "target_modules": "all-linear"},
        {"target_modules": r".*\.(SelfAttention|EncDecAttention)\.(q|v)"},
        {"task_type": None},
        {"use_dora": True, "use_rslora": True},
        {"trainable_token_indices": [3, 4]},
    ],
    ids=str,
)
def test_what_plain_peft_saves_is_taken(model, tmp_path, runs_dir, settings):
    base = load_base(str(model), precision="fp32").model
    config = {"r": 4, "task_type": "SEQ_2_SEQ_LM"} | settings
    get_peft_model(base, LoraConfig(**config)).save_pretrained(tmp_path / "plain")
    kept = import_adapter(tmp_path / "plain", runs_dir)
    assert load(kept.name, runs_dir=runs_dir).base == str(model)


def test_the_same_again_is_the_same_and_another_needs_a_name_of_its_own(
    adapter, runs_dir, model, tmp_path
):
    first = import_adapter(adapter, runs_dir, name="it")
    assert import_adapter(pack(adapter, tmp_path / "it.zip"), runs_dir, name="it") == first
    other = make_adapter(model, tmp_path / "other", seed=2)
    with pytest.raises(RunError, match="another imported adapter named it already"):
        import_adapter(other, runs_dir, name="it")
    assert list_imported(runs_dir) == [first]
    remove_imported("it", runs_dir)
    assert import_adapter(other, runs_dir, name="it").digest != first.digest


def test_two_visitors_bring_in_the_same_and_each_has_it(adapter, runs_dir):
    one, two, again = (import_adapter(adapter, runs_dir, owner=who * 32) for who in ("a", "b", "b"))
    assert again == two and two.name == f"{one.name}-bbbbbb"
    assert [owner_of(each.folder)[0] for each in (one, two)] == ["a", "b"]
    with pytest.raises(RunError, match="another imported adapter named"):
        import_adapter(adapter, runs_dir, name=one.name, owner="b" * 32)


def test_a_zip_of_a_run_of_ours_is_an_adapter(made, runs_dir, model, tmp_path):
    run = made_run(tmp_path / "elsewhere", "2026-01-01-000000-mine", *story(), model=str(model))
    shutil.copytree(made, run.adapter)
    for name in ("checkpoint", "checkpoint.previous"):
        (run.path / name).mkdir()
        (run.path / name / "weights.safetensors").write_bytes(b"x")
    zip_run(run, tmp_path / "run.zip", checkpoints=True)
    kept = import_adapter(tmp_path / "run.zip", runs_dir)
    assert (kept.base, kept.r) == (str(model), 4)


def test_an_adapter_that_names_no_base_is_told_one(model, tmp_path, runs_dir):
    base = load_base(str(model), precision="fp32").model
    base.name_or_path = ""
    get_peft_model(base, LoraConfig(r=2, target_modules=["q"])).save_pretrained(tmp_path / "bare")
    assert "Say which one it is" in refusal(tmp_path / "bare", runs_dir)
    assert import_adapter(tmp_path / "bare", runs_dir, base=str(model)).base == str(model)


def test_an_imported_adapter_is_trained_on_and_named_where_it_lies(adapter, runs_dir, model):
    kept = import_adapter(adapter, runs_dir, name="it")
    run = runs.create(TrainConfig.build(model=str(model), init_adapter="it"), runs_dir)
    assert run.config().init_adapter == str(kept.folder.resolve())


def test_its_base_can_be_said_where_its_settings_name_a_folder_elsewhere(adapter, runs_dir, model):
    change(adapter, base_model_name_or_path="/home/someone/flan")
    message = refusal(adapter, runs_dir)
    assert "names as its base model the folder /home/someone/flan, which is not here" in message
    kept = import_adapter(adapter, runs_dir, base=str(model))
    assert locate(kept.name, runs_dir).base == str(model)


# --- names ---


@pytest.mark.parametrize("name", ["base", "tuned", "../up", "a/b", ".hidden", "x" * 81, "a b", "ä"])
def test_names_that_are_no_names(adapter, runs_dir, name):
    assert "cannot be called" in refusal(adapter, runs_dir, name=name)
    assert imported_folder(name, runs_dir) is None


def test_a_run_keeps_its_name(adapter, runs_dir):
    run = runs.create(TrainConfig(), runs_dir)
    with pytest.raises(RunError, match=f"There is a run named {run.id} already"):
        import_adapter(adapter, runs_dir, name=run.id)


@pytest.mark.parametrize("name", ["nothing", "..", "../runs", ""])
def test_removing_what_is_not_there(runs_dir, name):
    with pytest.raises(RunError, match="no imported adapter"):
        remove_imported(name, runs_dir)


# --- the refusals ---

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "IA3"}, "is of the kind IA3, not LoRA"),
    ({"peft_type": None}, "is of the kind None, not LoRA"),
    ({"task_type": "CAUSAL_LM"}, "made for the task CAUSAL_LM, not for SEQ_2_SEQ_LM"),
    ({"task_type": "x\x1b[2J\ny"}, "made for the task x�[2J y,"),
    ({"init_lora_weights": "pissa"}, "changes the base model's own weights (init_lora_weights=pissa)"),
    ({"init_lora_weights": "olora"}, "changes the base model's own weights"),
    ({"bias": "all"}, "changes the base model's own weights (bias=all)"),
    ({"layer_replication": [[0, 2]]}, "changes the base model's own weights"),
    ({"auto_mapping": {"parent_library": "os", "base_model_class": "x"}}, "run code of its own (auto_mapping"),
    ({"auto_mapping": "evil"}, "run code of its own (auto_mapping"),
    ({"trust_remote_code": True}, "run code of its own (trust_remote_code"),
    ({"auto_map": {"AutoModel": "x.y"}}, "run code of its own (auto_map"),
    ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "run code of its own (megatron_config"),
    ({"r": 2}, "settings say rank 2, its weights have rank 4"),
    ({"r": 10**9}, "settings say rank 1000000000, its weights have rank 4"),
    ({"r": 0}, "has the rank 0"),
    ({"r": "4"}, None),
    ({"rank_pattern": {"q": 10**9}}, "its weights have rank 4"),
    ({"target_modules": "(a+)+$"}, "could take for ever to match"),
    ({"target_modules": ".*.*.*.*.*.*x"}, "could take for ever to match"),
    ({"rank_pattern": {"(.*)*q": 4}}, "could take for ever to match"),
    ({"target_modules": ["nothing"]}, "does not fit the base model"),
    ({"target_modules": ["q"]}, "of its tensors are unknown, such as base_model."),
    ({"target_modules": ["q", "v", "wo", "k"]}, "of its tensors are missing, such as base_model."),
    ({"use_dora": True}, "of its tensors are missing"),
    ({"base_model_name_or_path": None}, "does not name its base model"),
    ({"base_model_name_or_path": "no\nmodel"}, "No model is called so."),
    ({"base_model_name_or_path": "someone/unknown"}, "someone/unknown"),
    ({"base_model_name_or_path": "../../../nowhere"}, "which is not here"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "reason"), SETTINGS, ids=str)
def test_settings_that_are_refused(adapter, runs_dir, settings, reason):
    change(adapter, **settings)
    message = refusal(adapter, runs_dir)
    assert (reason or "has the rank") in message
    assert message.isprintable()


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_damaged_settings(adapter, runs_dir, text):
    (adapter / ADAPTER_CONFIG).write_text(text)
    assert "settings (adapter_config.json) that are damaged" in refusal(adapter, runs_dir)


@pytest.mark.parametrize("pickled", ["adapter_model.bin", "weights.pt", "a.pkl", "last.ckpt"])
def test_pickles_are_refused_unread(adapter, runs_dir, tmp_path, pickled):
    class Bomb:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    (adapter / ADAPTER_WEIGHTS).unlink()
    (adapter / pickled).write_bytes(pickle.dumps(Bomb()))
    for source in (adapter, pack(adapter, tmp_path / "it.zip")):
        message = refusal(source, runs_dir)
        assert f"has no adapter_model.safetensors; {pickled} is a pickle, which can run" in message
        assert "save_pretrained(folder, safe_serialization=True)" in message
    with pytest.raises(ModelError, match="is a pickle"):
        load(adapter)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_beside_good_weights_is_not_read(adapter, runs_dir, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
    load(import_adapter(adapter, runs_dir).name, runs_dir=runs_dir)
    load(adapter)
    assert not (tmp_path / "ran").exists()


def header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


WEIGHTS: list[tuple[bytes, str]] = [
    (b"", "no safetensors file, or is cut off"),
    (b"not tensors at all", "no safetensors file, or is cut off"),
    (b"\xff" * 500, "no safetensors file, or is cut off"),
    (struct.pack("<Q", 2**60) + b"{}", "no safetensors file, or is cut off"),
    (header({}), "it holds no weights"),
    (header({"a": entry()}), "it is cut off"),
    (header({"a": entry()}, b"123456"), "it is too long"),
    (header({"a": entry(shape=[2**40, 2**40])}, b"1234"), "the size of a is wrong"),
    (header({"a": entry(shape=[-1])}, b"1234"), "makes no sense"),
    (header({"a": 7}, b"1234"), "makes no sense"),
    (header({"a": entry("I64", [1], [0, 8])}, b"12345678"), "numbers of the kind I64"),
    (header({"shared.weight": entry()}, b"1234"), "is no LoRA adapter"),
]


@pytest.mark.parametrize(("data", "reason"), WEIGHTS, ids=str)
def test_weights_files_that_are_refused(adapter, runs_dir, data, reason):
    (adapter / ADAPTER_WEIGHTS).write_bytes(data)
    assert reason in refusal(adapter, runs_dir)
    with pytest.raises(ModelError):  # also where it is named without being imported
        load(adapter)


def test_a_cut_off_download(adapter, runs_dir):
    path = adapter / ADAPTER_WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    assert "it is cut off" in refusal(adapter, runs_dir)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(adapter, runs_dir, value):
    change_weights(adapter, lambda weights: {name: w * value for name, w in weights.items()})
    assert "holds NaN or infinity" in refusal(adapter, runs_dir)
    with pytest.raises(ModelError, match="NaN or infinity"):
        load(adapter)


def test_checksums_that_came_along_are_checked(made, runs_dir, tmp_path):
    folder = Path(shutil.copytree(made, tmp_path / "mine"))
    change_weights(folder, lambda weights: {name: w + 1 for name, w in weights.items()})
    assert "adapter_model.safetensors is not what was written" in refusal(folder, runs_dir)


@pytest.mark.parametrize(
    "shape", [{"d_model": 64}, {"num_layers": 3, "num_decoder_layers": 3}, {"d_ff": 128}], ids=str
)
def test_a_base_of_another_shape(adapter, runs_dir, model, tmp_path, shape):
    other = Path(shutil.copytree(model, tmp_path / "other"))
    path = other / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | shape))
    message = refusal(adapter, runs_dir, base=str(other))
    assert f"does not fit the base model {other} that it names" in message


def test_more_numbers_than_the_base_has(adapter, runs_dir):
    change(adapter, r=2000)

    def grow(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: torch.zeros(2000, w.shape[1]) if "lora_A" in name else torch.zeros(len(w), 2000)
            for name, w in weights.items()
        }

    change_weights(adapter, grow)
    assert "more than its base model" in refusal(adapter, runs_dir)


def test_the_bases_own_embeddings_are_not_taken_over(adapter, runs_dir, model):
    name = "base_model.model.lm_head.weight"
    change_weights(adapter, lambda weights: weights | {name: torch.zeros(2, 2)})
    assert "save_embedding_layers=False" in refusal(adapter, runs_dir)


def test_a_stranger_cannot_write_into_the_base_that_others_use(adapter, made, model, tmp_path):
    answerer = load(made, precision="fp32")
    config = LoraConfig(
        r=4, lora_alpha=8, task_type="SEQ_2_SEQ_LM", target_modules=["q", "lm_head"]
    )
    evil = get_peft_model(load_base(str(model), precision="fp32").model, config)
    with torch.no_grad():
        evil.base_model.model.lm_head.base_layer.weight.add_(1.0)
    evil.save_pretrained(tmp_path / "evil", save_embedding_layers=True)
    before = answerer.model.get_base_model().lm_head.weight.clone()
    with pytest.raises(ModelError, match="missing or unknown"):
        answerer.add(tmp_path / "evil")
    assert torch.equal(answerer.model.get_base_model().lm_head.weight, before)


def test_a_decoder_only_base(adapter, runs_dir, tmp_path):
    from transformers import GPT2Config

    GPT2Config(n_layer=1, n_embd=8, n_head=1).save_pretrained(tmp_path / "gpt")
    change(adapter, task_type=None, base_model_name_or_path=str(tmp_path / "gpt"))
    assert "is a gpt2 model without an encoder" in refusal(adapter, runs_dir)


def test_folders_that_are_no_adapter(tmp_path, runs_dir, model, adapter):
    (tmp_path / "empty").mkdir()
    assert "holds no adapter_config.json" in refusal(tmp_path / "empty", runs_dir)
    assert "a base to train on, not an adapter" in refusal(model, runs_dir)
    for name in ("one", "two"):
        shutil.copytree(adapter, tmp_path / "both" / name)
    assert "holds several adapters: one/adapter_config.json, two/" in refusal(
        tmp_path / "both", runs_dir
    )
    (tmp_path / "it.bin").write_bytes(b"")
    assert "it.bin is no adapter" in refusal(tmp_path / "it.bin", runs_dir)


@pytest.mark.parametrize(
    "source", ["", "nothing here", "/nowhere", "~nobody-here/x", "a\0b", "x" * 5000]
)
def test_sources_that_are_none(runs_dir, source):
    assert "Give a folder, a .zip file, or a Hub id" in refusal(source, runs_dir)


def test_strangers_name_no_folder_of_this_machine(adapter, runs_dir, tmp_path, model, monkeypatch):
    archive = pack(adapter, tmp_path / "it.zip")
    for source in (str(adapter), str(archive), str(tmp_path)):
        message = refusal(source, runs_dir, folders_allowed=False)
        assert "cannot be a Hub id" in message and "Give a Hub id" in message
    for base in (str(model), "", "../../etc"):
        assert "which is no Hub id" in refusal(archive, runs_dir, folders_allowed=False, base=base)
    monkeypatch.setattr("qa_lora.skeleton.POCKET_FOLDER", model)
    kept = import_adapter(archive, runs_dir, folders_allowed=False, base="pocket")
    assert kept.kind == "zip"  # it was uploaded


def test_a_folder_that_cannot_be_written(adapter, runs_dir):
    runs_dir.mkdir()
    (runs_dir / imported.FOLDER).write_text("in the way")
    with pytest.raises(RunError, match="cannot be kept in"):
        import_adapter(adapter, runs_dir)


# --- hostile archives ---


def item(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


TRICKS: list[tuple[str, zipfile.ZipInfo, str]] = [
    ("absolute", item("/etc/cron.d/x"), "leads out of it"),
    ("up", item("../../x"), "leads out of it"),
    ("up inside", item("a/../../x"), "leads out of it"),
    ("backslash", item("..\\..\\x"), "leads out of it"),
    ("drive", item("C:\\x"), "leads out of it"),
    ("dot", item("./x"), "leads out of it or is unclear"),
    ("empty part", item("a//x"), "leads out of it or is unclear"),
    ("symlink", item("link", stat.S_IFLNK | 0o777), "is a link or a device"),
    ("device", item("null", stat.S_IFCHR | 0o666), "is a link or a device"),
    ("pipe", item("pipe", stat.S_IFIFO | 0o666), "is a link or a device"),
    ("twice", item(ADAPTER_WEIGHTS), "is in it twice"),
    ("twice by case", item(ADAPTER_WEIGHTS.upper()), "is in it twice"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("info", "reason"), [t[1:] for t in TRICKS], ids=[t[0] for t in TRICKS])
def test_tricks_in_an_archive(adapter, runs_dir, tmp_path, info, reason):
    archive = pack(adapter, tmp_path / "it.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(info, "/etc/passwd")
    assert reason in refusal(archive, runs_dir)
    assert not list(tmp_path.rglob("passwd"))


def test_an_archive_that_grows_without_end(adapter, runs_dir, tmp_path):
    archive = pack(adapter, tmp_path / "it.zip")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
        with opened.open("bomb", "w") as file:
            for _ in range(40):
                file.write(bytes(2**20))
    assert "grows more than 100 times" in refusal(archive, runs_dir)


def test_an_archive_with_too_much_in_it(adapter, runs_dir, tmp_path, monkeypatch):
    archive = pack(adapter, tmp_path / "it.zip")
    with monkeypatch.context() as patch:
        patch.setattr(adapter_archive, "MOST_ENTRIES", 3)
        assert "more than 3" in refusal(archive, runs_dir)
    with monkeypatch.context() as patch:
        patch.setattr(adapter_archive, "MOST_BYTES", 100)
        assert "more than 100" in refusal(archive, runs_dir)
    monkeypatch.setitem(imported.KNOWN_FILES, ADAPTER_WEIGHTS, 100)
    assert "adapter_model.safetensors has" in refusal(archive, runs_dir)
    assert "adapter_model.safetensors has more than 100" in refusal(adapter, runs_dir)


def test_an_archive_that_lies_about_a_size(adapter, runs_dir, tmp_path):
    archive = pack(adapter, tmp_path / "it.zip")
    size = (adapter / ADAPTER_WEIGHTS).stat().st_size
    data = archive.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", 64))
    archive.write_bytes(data)
    assert "damaged" in refusal(archive, runs_dir)


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"Rar!" * 99, b"\x1f\x8b" * 99]
)
def test_what_is_no_archive(runs_dir, tmp_path, data):
    archive = tmp_path / "it.zip"
    archive.write_bytes(data)
    refusal(archive, runs_dir)


def test_archives_that_are_not_read(adapter, runs_dir, tmp_path):
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "it.zip", "w", method) as opened:
            opened.write(adapter / ADAPTER_CONFIG, ADAPTER_CONFIG)
        assert "packed in a way that is not read" in refusal(tmp_path / "it.zip", runs_dir)
    archive = pack(adapter, tmp_path / "locked.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert "has a password" in refusal(archive, runs_dir)


def test_a_cut_off_archive(adapter, runs_dir, tmp_path):
    archive = pack(adapter, tmp_path / "it.zip")
    archive.write_bytes(archive.read_bytes()[:-200])
    assert "damaged or no .zip file" in refusal(archive, runs_dir)
