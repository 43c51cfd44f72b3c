"""An adapter goes to the Hub whole, private and clean, or not at all: real commands, a real client."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from qa_lora import runs
from qa_lora.checksums import find_damage
from qa_lora.config import TrainConfig
from qa_lora.errors import PublishError
from qa_lora.publishing import check, plan, upload
from qa_lora.worker import train
from tests.forked import qa_lora_command
from tests.loopback_hub import READ_ONLY_TOKEN, TOKEN, Hub

REPO = "someone/colours"
FILES = {
    "README.md", "SHA256SUMS", "adapter_config.json", "adapter_model.safetensors", "loss.png",
    "prompt.json", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A short training on a file, scored."""
    folder = tmp_path_factory.mktemp("secret-folder")
    data = folder / "colours.csv"
    rows = [f"What colour is thing {i}?,It is {'very ' * (i % 3)}red {i}." for i in range(40)]
    data.write_text("\n".join(["question,answer", *rows]))
    config = TrainConfig.build(
        model=str(tiny_model), data=str(data), max_steps=3, batch_size=4, score_rows=4,
        max_new_tokens=8, name="colours",
    )  # fmt: skip
    list(train(config, folder / "runs"))
    (run,) = runs.list_runs(folder / "runs")
    return run


@pytest.fixture
def run(made: runs.Run, tmp_path: Path) -> runs.Run:
    """A copy that a test may spoil."""
    folder = tmp_path / "runs" / made.id
    shutil.copytree(made.path, folder)
    return runs.Run(folder)


@pytest.fixture
def entered(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The Hub, for the client in this process."""
    hub.enter(monkeypatch, tmp_path / "home")
    return hub


def publish(
    run: runs.Run, hub: Hub, *options: str, token: str = TOKEN, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What ``qa-lora publish`` does; its token is nowhere in what it says."""
    home = run.path.parents[1]
    done = qa_lora_command(
        "publish", str(run.path), "--repo-id", REPO, *options, cwd=home,
        environment={**hub.environment(home / "hf", token), **environment},
    )  # fmt: skip
    assert not token or token not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def as_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_dry_run_shows_every_file_and_changes_nothing(run: runs.Run, hub: Hub) -> None:
    found = as_json(publish(run, hub, "--dry-run", "--json"))
    assert {file["name"] for file in found["files"]} == FILES
    assert all(file["change"] == "new" and file["size"] > 0 for file in found["files"])
    assert found["private"] and found["dry_run"] and found["url"] is None
    assert found["findings"] == [] and found["exists"] is False and found["account"] == "someone"
    assert not hub.repos and all(line.startswith("GET") for line in hub.seen)

    shown = publish(run, hub, "--dry-run").stdout
    assert all(name in shown for name in FILES)
    assert "Its base" in shown and "No licence is named" in shown


def test_a_dry_run_needs_no_hub(run: runs.Run, hub: Hub) -> None:
    found = as_json(publish(run, hub, "--dry-run", "--json", HF_HUB_OFFLINE="1"))
    assert found["exists"] is None and {file["change"] for file in found["files"]} == {"unknown"}
    refused = publish(run, hub, HF_HUB_OFFLINE="1")
    assert refused.returncode == 2 and "Offline mode is on." in refused.stderr


def test_what_is_published_is_private_whole_and_names_no_folder(
    run: runs.Run, hub: Hub, tmp_path: Path
) -> None:
    found = as_json(publish(run, hub, "--license", "cc-by-4.0", "--json"))
    repo = hub.repo("model", REPO)
    assert found["url"] == f"{hub.address}/{REPO}" and found["uploaded"] == len(FILES)
    assert repo.private and len(repo.commits) == 2
    assert set(repo.files) == {*FILES, ".gitattributes"}
    for name, data in repo.files.items():
        for folder in (run.path.parents[1], tmp_path, Path.home(), Path(run.config().model).parent):
            assert str(folder).encode() not in data, name
        assert b"secret-folder" not in data
    base = json.loads(repo.files["adapter_config.json"])["base_model_name_or_path"]
    assert base == Path(run.config().model).name

    got = tmp_path / "got"
    got.mkdir()
    for name in FILES:
        (got / name).write_bytes(repo.files[name])
    assert find_damage(got) is None
    card = ModelCard.load(got / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "peft"
    assert card.data.model_name == "colours"
    results = card.data.eval_results
    assert {(r.metric_type, r.metric_name) for r in results} >= {
        ("rouge", "ROUGE-L"), ("exact_match", "exact match"),
    }  # fmt: skip
    assert all(r.dataset_split == "test" and r.dataset_name == "colours.csv" for r in results)
    assert repo.files["loss.png"].startswith(b"\x89PNG")


def test_the_same_again_uploads_nothing_and_a_change_only_what_changed(
    run: runs.Run, hub: Hub
) -> None:
    as_json(publish(run, hub, "--json"))
    again = as_json(publish(run, hub, "--json"))
    repo = hub.repo("model", REPO)
    assert again["uploaded"] == 0 and len(repo.commits) == 2
    assert {file["change"] for file in again["files"]} == {"same"}
    changed = as_json(publish(run, hub, "--license", "mit", "--message", "Name it", "--json"))
    assert changed["uploaded"] == 2 and repo.commits[-1] == "Name it"
    assert {f["name"] for f in changed["files"] if f["change"] == "changed"} == {
        "README.md", "SHA256SUMS",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (("fail", "POST .*/commit/main", 500), "The Hub has a problem of its own (500)."),
        (("fail", "POST .*/commit/main", 403), "does not let this account write to"),
        (("fail", "POST .*/preupload/main", 404), "The Hub has no repository"),
        (("fail", "POST .*/repos/create", 401), "The Hub does not accept this token."),
        (("cut", "POST .*/commit/main", 100), "the connection broke"),
    ],
)
def test_a_failed_upload_leaves_nothing_half_and_can_be_repeated(
    run: runs.Run, hub: Hub, fault: tuple[str, str, int], says: str
) -> None:
    kind, path, number = fault
    getattr(hub, kind)(path, number, times=20)
    failed = publish(run, hub, "--license", "mit")
    assert failed.returncode == 2 and says in failed.stderr, failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert all(set(repo.files) == {".gitattributes"} for repo in hub.repos.values())
    hub._failures.clear()
    hub._cuts.clear()
    assert publish(run, hub, "--license", "mit").returncode == 0
    repo = hub.repo("model", REPO)
    assert set(repo.files) == {*FILES, ".gitattributes"} and repo.private


def test_too_many_requests_say_how_long_to_wait(entered: Hub, run: runs.Run) -> None:
    planned = plan(run, REPO, token=TOKEN)
    entered.fail("/commit/main", 429, times=20, headers={"Retry-After": "0"})
    with pytest.raises(PublishError, match=r"asks for fewer requests\. Try again after 0 s"):
        upload(planned, TOKEN)


def test_what_others_put_there_is_not_replaced_without_a_yes(run: runs.Run, hub: Hub) -> None:
    theirs = {"README.md": b"# Theirs", "notes.txt": b"keep me", "prompt.json": b"{}"}
    repo = hub.add("model", REPO, theirs, private=True)
    refused = publish(run, hub)
    assert refused.returncode == 2 and "holds something else" in refused.stderr
    assert "--update" in refused.stderr and repo.files == theirs
    assert publish(run, hub, "--update").returncode == 0
    assert repo.files["notes.txt"] == b"keep me" and set(repo.files) == {*FILES, "notes.txt"}


def test_another_run_and_an_edited_card_are_asked_about(run: runs.Run, hub: Hub) -> None:
    assert publish(run, hub).returncode == 0
    other = runs.Run(run.path.with_name("2026-01-01-000000-other"))
    shutil.copytree(run.path, other.path)
    refused = publish(other, hub)
    assert refused.returncode == 2 and f"another run, {run.id}." in refused.stderr
    repo = hub.repo("model", REPO)
    card = repo.files["README.md"].replace(b"# A LoRA", b"# My dear LoRA")
    repo.commit({**repo.files, "README.md": card}, "edited on the Hub")
    refused = publish(run, hub)
    assert refused.returncode == 2 and "was edited there" in refused.stderr
    assert b"My dear" in repo.files["README.md"]
    assert publish(run, hub, "--update").returncode == 0
    assert b"My dear" not in repo.files["README.md"]


def test_who_sees_it_is_never_changed_silently(run: runs.Run, hub: Hub) -> None:
    public = hub.add("model", REPO, {})
    refused = publish(run, hub)
    assert refused.returncode == 2 and "is public: everybody would see" in refused.stderr
    assert publish(run, hub, "--update").returncode == 2  # this yes is to another question
    assert public.files == {}
    assert publish(run, hub, "--public").returncode == 0
    assert not public.private

    private = hub.add("model", REPO, {}, private=True)
    done = publish(run, hub, "--public")
    assert done.returncode == 0 and private.private and "stays so" in done.stdout


def test_a_proposal_leaves_main_as_it_is(run: runs.Run, hub: Hub) -> None:
    repo = hub.add("model", REPO, {}, private=True)
    found = as_json(publish(run, hub, "--pr", "--json"))
    assert found["url"].endswith("/discussions/1") and repo.files == {}
    assert set(repo.pull_requests[0]["files"]) == FILES


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "Publishing needs a login. Log in with hf auth login, or set HF_TOKEN"),
        (READ_ONLY_TOKEN, f"does not let this account write to {REPO}. Use a token with write"),
        ("hf_wrong_token_1234", "The Hub does not accept this token. Log in with"),
    ],
)
def test_without_the_right_to_write_nothing_happens(
    run: runs.Run, hub: Hub, token: str, says: str
) -> None:
    refused = publish(run, hub, token=token)
    assert refused.returncode == 2 and says in refused.stderr
    assert not hub.repos


def test_tokens_and_paths_in_files_block_the_upload(run: runs.Run, hub: Hub) -> None:
    prompt = run.adapter / "prompt.json"
    values = json.loads(prompt.read_text())
    secret = "ghp_" + "a1B2" * 9
    values["prompt"] = f"{secret} and /home/someone/notes {{question}}"
    prompt.write_text(json.dumps(values))
    refused = publish(run, hub)
    assert refused.returncode == 2 and "prompt.json, line 1: a GitHub token" in refused.stderr
    assert secret not in refused.stdout + refused.stderr
    assert not hub.repos and publish(run, hub, "--update", "--public").returncode == 2
    found = as_json(publish(run, hub, "--dry-run", "--json"))
    assert {f["what"] for f in found["findings"]} == {"a GitHub token", "an absolute path"}


def test_only_what_belongs_to_an_adapter_is_taken(run: runs.Run, hub: Hub) -> None:
    (run.adapter / "notes.txt").write_text("my notes")
    (run.adapter / "adapter_model.bin").write_bytes(b"pickle")
    done = publish(run, hub)
    assert done.returncode == 0 and "adapter_model.bin, notes.txt" in done.stdout
    assert set(hub.files("model", REPO)) == {*FILES, ".gitattributes"}


def test_a_run_that_cannot_be_published_says_why(run: runs.Run, hub: Hub) -> None:
    (run.adapter / "adapter_model.safetensors").write_bytes(b"short")
    assert "is damaged" in publish(run, hub).stderr
    shutil.rmtree(run.adapter)
    assert "has no adapter yet" in publish(run, hub).stderr
    assert hub.seen == []


@pytest.mark.parametrize("name", ["colours", "a/b/c", "someone/", "../x", "someone/a b", "a/-", ""])
def test_names_are_checked_before_anything_is_sent(entered: Hub, run: runs.Run, name: str) -> None:
    with pytest.raises(PublishError, match="cannot be the id of a repository"):
        plan(run, name, token=TOKEN)
    assert entered.seen == []


def test_a_change_after_the_look_is_noticed(entered: Hub, run: runs.Run) -> None:
    repo = entered.add("model", REPO, {}, private=True)
    planned = plan(run, REPO, token=TOKEN)
    repo.commit({"x": b"y"}, "meanwhile")
    with pytest.raises(PublishError, match="Somebody changed someone/colours meanwhile"):
        upload(planned, TOKEN)
    assert repo.files == {"x": b"y"}


def test_what_was_looked_at_is_what_goes(entered: Hub, run: runs.Run) -> None:
    repo = entered.add("model", REPO, {}, private=True)
    planned = plan(run, REPO, token=TOKEN)
    weights = run.adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(PublishError, match="has changed since it was looked at"):
        upload(planned, TOKEN)
    shutil.rmtree(run.path)
    with pytest.raises(PublishError, match="has changed since it was looked at"):
        upload(planned, TOKEN)
    assert repo.files == {}


def test_a_repository_that_was_made_meanwhile_is_not_written_to(
    entered: Hub, run: runs.Run
) -> None:
    planned = plan(run, REPO, token=TOKEN)
    repo = entered.add("model", REPO, {"README.md": b"theirs"})
    with pytest.raises(PublishError, match="that was not there, or not seen, before"):
        upload(planned, TOKEN)
    assert repo.files == {"README.md": b"theirs"}


def test_answers_to_questions_of_a_private_file_are_shown_if_that_is_wished(
    entered: Hub, run: runs.Run
) -> None:
    assert "Some answers" not in plan(run, REPO, token=TOKEN).card
    assert "Some answers" in plan(run, REPO, token=TOKEN, examples=2).card


def test_no_other_token_is_used_than_the_one_given(
    entered: Hub, run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered.add("model", REPO, {"README.md": b"x"}, private=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    planned = plan(run, REPO, token=None)
    assert planned.exists is False and planned.account is None
    with pytest.raises(PublishError, match="needs a login"):
        upload(planned, None)
    check(planned)
