"""A run is copied elsewhere as it trains, and goes on from there as if nothing had happened."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from qa_lora import runs
from qa_lora.adapters import ADAPTER_WEIGHTS
from qa_lora.backup.fetch import fetch
from qa_lora.backup.keeper import Keeper
from qa_lora.backup.places import is_repo
from qa_lora.cli import main
from qa_lora.config import TrainConfig
from qa_lora.errors import RunError
from qa_lora.events import BackedUp, Checkpointed, Event, Finished, Step
from qa_lora.worker import execute, train
from tests.loopback_hub import TOKEN, Hub


def settings(tiny_model: Path, qa_csv: Path, **values: Any) -> TrainConfig:
    return TrainConfig.build(**{
        "model": str(tiny_model), "data": str(qa_csv), "max_steps": 8, "batch_size": 4,
        "checkpoint_every": 2, "evaluate_every": 4, "score_rows": 0, "backup_minutes": 0, **values,
    })  # fmt: skip


def losses(events: list[Event]) -> list[tuple[int, float]]:
    return [(event.step, event.loss) for event in events if isinstance(event, Step)]


def test_a_run_fetched_from_its_backup_goes_on_exactly(
    tiny_model: Path, qa_csv: Path, tmp_path: Path
) -> None:
    whole = list(train(settings(tiny_model, qa_csv), tmp_path / "whole"))
    (expected,) = runs.list_runs(tmp_path / "whole")

    place = tmp_path / "volume"
    run = runs.create(settings(tiny_model, qa_csv, backup=str(place)), tmp_path / "runs")
    story = execute(run)
    for event in story:
        if isinstance(event, Step) and event.step == 5:
            break
    story.close()  # as if the machine were gone
    shutil.rmtree(tmp_path / "runs")

    back = fetch(str(place), tmp_path / "anew")
    assert back.id == run.id and back.status() == "interrupted" and back.can_resume()
    step = max(e.step for e in back.events() if isinstance(e, Checkpointed))
    assert step in (2, 4)
    rest = list(execute(back, resume=True))
    assert losses(back.events()) == losses(whole)
    assert isinstance([e for e in rest if isinstance(e, Finished)][-1], Finished)
    weights = [each.adapter / ADAPTER_WEIGHTS for each in (back, expected)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_backup_of_a_finished_run_is_whole(
    tiny_model: Path, qa_csv: Path, tmp_path: Path
) -> None:
    place = tmp_path / "volume"
    config = settings(tiny_model, qa_csv, backup=str(place), score_rows=4, max_steps=2)
    told = [e for e in train(config, tmp_path / "runs") if isinstance(e, BackedUp)]
    assert told and not any(event.error for event in told)
    back = fetch(str(place), tmp_path / "anew")
    assert back.status() == "finished" and back.evaluations() == [1] and back.has_adapter()
    assert not (back.path / "process.json").exists() and not (back.path / ".backup").exists()
    assert back.events()[-1].type in ("scored", "backed_up")


def test_a_backup_that_fails_ends_no_training(
    tiny_model: Path, qa_csv: Path, tmp_path: Path
) -> None:
    place = tmp_path / "a-file"
    place.write_text("not a folder")
    config = settings(tiny_model, qa_csv, backup=str(place), max_steps=2)
    events = list(train(config, tmp_path / "runs"))
    (finished,) = (e for e in events if isinstance(e, Finished))
    assert finished.reason == "completed"
    told = [e.error for e in events if isinstance(e, BackedUp)]
    assert told and all(f"The backup folder {place} cannot be written" in each for each in told)
    (run,) = runs.list_runs(tmp_path / "runs")
    assert run.status() == "finished" and [e for e in run.events() if isinstance(e, BackedUp)]


def test_the_variable_of_the_machine_counts_where_the_setting_is_empty(
    tiny_model: Path, qa_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QA_LORA_BACKUP", str(tmp_path / "volume"))
    list(train(settings(tiny_model, qa_csv, max_steps=2), tmp_path / "runs"))
    (run,) = runs.list_runs(tmp_path / "runs")
    assert (tmp_path / "volume" / run.id / "config.yaml").is_file()


def test_fetching_says_what_is_missing_and_overwrites_nothing(tmp_path: Path) -> None:
    place = tmp_path / "volume"
    for name in ("2026-01-01-000000-a", "2026-01-02-000000-b"):
        (place / name).mkdir(parents=True)
        (place / name / "config.yaml").write_text(TrainConfig().to_yaml())
    (place / "2026-01-02-000000-b" / "leak").symlink_to("/etc/passwd")
    with pytest.raises(RunError, match=r"no backup of c in .* The newest there is 2026-01-02"):
        fetch(str(place), tmp_path / "runs", "c")
    run = fetch(str(place), tmp_path / "runs")
    assert run.id.endswith("-b") and not (run.path / "leak").exists()
    assert fetch(str(place), tmp_path / "runs", "2026-01-01-000000-a").id.endswith("-a")
    with pytest.raises(RunError, match=r"There is a run 2026-01-02-000000-b in .* already"):
        fetch(str(place / "2026-01-02-000000-b"), tmp_path / "runs")
    with pytest.raises(RunError, match="There is no backup of a run in"):
        fetch(str(tmp_path / "nothing"), tmp_path / "runs")


def test_a_backup_that_was_cut_short_is_not_taken_for_one(tmp_path: Path) -> None:
    place = tmp_path / "volume"

    def lies_at(name: str) -> None:
        (place / name).mkdir(parents=True)
        (place / name / "config.yaml").write_text(TrainConfig().to_yaml())

    lies_at(".2026-01-01-000000-a.new")
    with pytest.raises(RunError, match="There is no backup of a run in"):
        fetch(str(place), tmp_path / "runs")
    # Killed between the two renames: the one before was moved away, the new one is whole.
    lies_at(".2026-01-01-000000-a.old")
    assert fetch(str(place), tmp_path / "runs").id == "2026-01-01-000000-a"
    assert [path.name for path in place.iterdir()] == ["2026-01-01-000000-a"]


def test_what_another_machine_lacks_is_said_before_it_is_needed(
    tmp_path: Path, qa_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"data": str(qa_csv), "test_data": "/gone/exam.csv", "model": "/gone/model"}
    run = runs.create(TrainConfig.build(**names), tmp_path / "volume")
    words = ["fetch-backup", str(tmp_path / "volume"), "--runs-dir", str(tmp_path / "runs")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"{run.id} is in" in said and str(qa_csv) not in said
    assert "name /gone/exam.csv, which is not on this machine" in said and "/gone/model" in said


def test_a_place_is_a_folder_or_a_repository(tmp_path: Path) -> None:
    assert is_repo("someone/backups")
    assert not any(map(is_repo, (str(tmp_path), "/data/x", "~/x", "x", "a/b/c", "../x", "./x")))


def test_a_private_repository_keeps_runs_and_gives_them_back(
    hub: Hub, tiny_model: Path, qa_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.enter(monkeypatch, tmp_path / "hf", TOKEN)
    config = settings(tiny_model, qa_csv, backup="someone/backups", max_steps=2)
    told = [e for e in train(config, tmp_path / "runs") if isinstance(e, BackedUp)]
    assert told and not any(event.error for event in told)
    (run,) = runs.list_runs(tmp_path / "runs")
    repo = hub.repo("model", "someone/backups")
    assert repo.private and f"{run.id}/checkpoint/state.json" in repo.files
    # Files that a later state no longer has go; other runs and files of others stay.
    stale = {f"{run.id}/checkpoint/old": b"x", "another/config.yaml": b"x"}
    repo.commit({**repo.files, **stale}, "older things")
    Keeper(run, "someone/backups", 0).finish()
    assert f"{run.id}/checkpoint/old" not in repo.files and "another/config.yaml" in repo.files

    back = fetch("someone/backups", tmp_path / "anew", run.id)
    assert back.status() == "finished"
    for path in (run.path / "checkpoint").iterdir():
        assert (back.checkpoint / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("why", ["public", "no login", "down"])
def test_a_repository_that_will_not_do_ends_no_training(
    hub: Hub, tiny_model: Path, qa_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:  # fmt: skip
    hub.enter(monkeypatch, tmp_path / "hf", "" if why == "no login" else TOKEN)
    repo = hub.add("model", "someone/backups", {}, private=why != "public")
    if why == "down":
        hub.fail("/commit/main", 503, times=99)
    config = settings(tiny_model, qa_csv, backup="someone/backups", max_steps=2)
    events = list(train(config, tmp_path / "runs"))
    assert [e.reason for e in events if isinstance(e, Finished)] == ["completed"]
    errors = {e.error for e in events if isinstance(e, BackedUp)}
    says = {
        "public": "is public, and backups go to private",
        "no login": "needs a login",
        "down": "The Hub has a problem of its own (503)",
    }
    assert len(errors) == 1 and says[why] in errors.pop()
    assert repo.files == {}
