"""Data that is kept between processes equals data read anew, and is never out of date."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qa_lora.config import TrainConfig
from qa_lora.data import DataSplit, LoadedData, cache, load_and_split, load_split, rows, store
from qa_lora.data.checks import check_loaded

SIDES = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything counts as large, and is kept in a folder of the test's own."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store.collect, "__kwdefaults__", {"in_memory": 3})
    monkeypatch.setattr(cache, "WORTH_BYTES", 1)


@pytest.fixture
def times_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has an item for each time that data is read and not opened."""
    times: list[int] = []
    read = rows._read_and_split

    def counted(*arguments: Any, **named: Any) -> Any:
        times.append(1)
        return read(*arguments, **named)

    monkeypatch.setattr(rows, "_read_and_split", counted)
    return times


def write(path: Path, count: int = 12, **more: Any) -> Path:
    lines = [
        {"question": f"What is thing {path.stem} {i}?", "answer": f"Answer {i}.", **more}
        for i in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def without_cache(config: TrainConfig) -> tuple[LoadedData, DataSplit]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_key", lambda origin: None)
        return load_and_split(config)


def told(found: tuple[LoadedData, DataSplit]) -> dict[str, Any]:
    """Everything that can be read off, with sequences as lists."""
    loaded, split = found
    return {
        **{name: getattr(split, name) for name in ("fingerprint", "removed", "notes")},
        **{side: list(getattr(split, side)) for side in SIDES},
        **{
            name: getattr(loaded, name)
            for name in (
                *("columns", "column_names", "rows_read", "rows_in_source", "sources", "source"),
                *("form", "given"),
            )
        },
        **{
            name: list(getattr(loaded, name))
            for name in ("examples", "splits", "rows", "files", "origins", "dropped")
        },
        "texts of the dropped": [each.text for each in loaded.dropped],
        "fingerprint of all": loaded.fingerprint,
    }


def test_what_is_kept_equals_what_is_read(tmp_path: Path, times_read: list[int]) -> None:
    chats = [
        {
            "messages": [
                {"role": role, "content": f"{role} {i} {turn}"}
                for turn in range(2)
                for role in ("user", "assistant")
            ]
        }
        for i in range(9)
    ]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)))
    facts = write(tmp_path / "facts.jsonl", facts=["one", "two"], context="A passage.", id="same")
    sides = [
        {
            "question": f"Which side {i % 7}?",
            "answer": f"This {i}.",
            "split": ("train", "test")[i % 2],
        }
        for i in range(14)
    ]
    sides += [{"question": "", "answer": "Dropped."}, {"question": "Why?", "answer": ""}]
    (tmp_path / "sides.jsonl").write_text("\n".join(map(json.dumps, sides)))
    config = TrainConfig(
        data=f"{tmp_path}/chats.jsonl weight=1.5\n{facts} weight=2\n{tmp_path}/sides.jsonl",
        validation_data=str(write(tmp_path / "own.jsonl", 5)),
        near_duplicates=0.9,
    )
    fresh = without_cache(config)
    assert fresh[0].dropped
    assert fresh[1].removed
    load_and_split(config)
    opened = load_and_split(config)
    assert len(times_read) == 2
    assert told(opened) == told(fresh)
    weighted = load_split(config)
    assert len(times_read) == 2
    plain = rows.with_weights(*fresh, config.seed)
    assert [list(getattr(weighted, side)) for side in SIDES] == [
        list(getattr(plain, side)) for side in SIDES
    ]
    assert len(weighted.train) > len(opened[1].train)
    reports = [check_loaded(config, *found, tokenizer=None) for found in (fresh, opened)]
    assert reports[0] == reports[1]


def later(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def another(path: Path) -> None:
    """The same size and time, but another content."""
    stat = path.stat()
    path.write_text(path.read_text().replace("Answer", "Reply!"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_mtime_ns == stat.st_mtime_ns


@pytest.mark.parametrize("change", [later, another])
def test_a_changed_file_is_read_again(
    change: Callable[[Path], None], tmp_path: Path, times_read: list[int]
) -> None:
    path = write(tmp_path / "rows.jsonl")
    config = TrainConfig(data=str(path))
    load_and_split(config)
    change(path)
    assert told(load_and_split(config)) == told(without_cache(config))
    assert len(times_read) == 3


def test_a_new_file_in_a_folder_is_read(tmp_path: Path, times_read: list[int]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "a.jsonl")
    config = TrainConfig(data=str(folder))
    assert load_and_split(config)[0].rows_read == 12
    write(folder / "b.jsonl")
    assert load_and_split(config)[0].rows_read == 24
    assert load_and_split(config)[0].rows_read == 24
    assert len(times_read) == 2


def test_a_link_that_gets_the_name_of_another_side_is_read_again(
    tmp_path: Path, times_read: list[int]
) -> None:
    folder = tmp_path / "folder"
    (folder / ".rows").mkdir(parents=True)
    for name, stem in (("train", "a"), ("test", "b")):
        (folder / f"{name}.jsonl").symlink_to(write(folder / ".rows" / f"{stem}.jsonl"))
    config = TrainConfig(data=str(folder))
    assert len(load_split(config).test) == 12
    (folder / "test.jsonl").rename(folder / "dev.jsonl")
    assert len(load_split(config).validation) == 12
    assert len(times_read) == 2


def test_another_setting_or_version_reads_again(
    tmp_path: Path, times_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "rows.jsonl")
    load_and_split(TrainConfig(data=str(path)))
    load_and_split(TrainConfig(data=str(path), learning_rate=0.1, lora_r=2))
    assert len(times_read) == 1
    load_and_split(TrainConfig(data=str(path), seed=1))
    load_and_split(TrainConfig(data=str(path), test_fraction=0.3))
    load_and_split(TrainConfig(data=f"{path} weight=2"))
    assert len(times_read) == 4
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    load_and_split(TrainConfig(data=str(path)))
    assert len(times_read) == 5


def test_a_run_in_another_folder_opens_what_the_page_read(
    tmp_path: Path, times_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "rows.jsonl")
    monkeypatch.chdir(tmp_path)
    load_and_split(TrainConfig(data="rows.jsonl"))
    load_and_split(TrainConfig(data=str(path)))
    assert len(times_read) == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("rest.npz", damage) for damage in (cut, flip, Path.unlink)),
        *(("examples.arrow", damage) for damage in (cut, Path.unlink)),
    ],
)
def test_a_damaged_entry_is_made_again(
    name: str, damage: Callable[[Path], None], tmp_path: Path, times_read: list[int]
) -> None:
    config = TrainConfig(data=str(write(tmp_path / "rows.jsonl")))
    before = told(load_and_split(config))
    (entry,) = cache.place().glob("[!.]*/")
    damage(entry / name)
    assert told(load_and_split(config)) == before
    assert len(times_read) == 2
    assert told(load_and_split(config)) == before
    assert len(times_read) == 2


@pytest.mark.parametrize("hindrance", ["a file in its place", "no room"])
def test_where_nothing_can_be_kept_it_is_read_each_time(
    hindrance: str, tmp_path: Path, times_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if hindrance == "no room":
        monkeypatch.setattr(cache, "ROOM_BYTES", 1 << 62)
    else:
        (tmp_path / "cache").write_text("in the way")
    config = TrainConfig(data=str(write(tmp_path / "rows.jsonl")))
    assert told(load_and_split(config)) == told(load_and_split(config))
    assert len(times_read) == 2


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no such rights")
@pytest.mark.parametrize("open_to_others", ["the cache", "the entry"])
def test_what_others_could_have_written_is_not_opened(
    open_to_others: str, tmp_path: Path, times_read: list[int]
) -> None:
    config = TrainConfig(data=str(write(tmp_path / "rows.jsonl")))
    load_and_split(config)
    (entry,) = cache.place().glob("[!.]*/")
    assert entry.stat().st_mode & 0o077 == 0
    (cache.place() if open_to_others == "the cache" else entry).chmod(0o777)
    load_and_split(config)
    assert len(times_read) == 2


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no such rights")
def test_the_cache_of_another_user_is_left_alone(
    tmp_path: Path, times_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(data=str(write(tmp_path / "rows.jsonl")))
    load_and_split(config)
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    load_and_split(config)
    assert len(times_read) == 2

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", closed)  # as a folder of mode 0700 does
    assert cache._open(cache.place() / "anything") is None


def test_small_data_leaves_nothing_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.collect, "__kwdefaults__", {"in_memory": 100})
    config = TrainConfig(data=str(write(tmp_path / "rows.jsonl")))
    load_and_split(config)
    assert list(cache.place().glob("*/")) == []
    monkeypatch.setattr(cache, "WORTH_BYTES", 1 << 20)
    load_and_split(TrainConfig(data=str(write(tmp_path / "others.jsonl"))))
    assert len(list(cache.place().iterdir())) <= 1  # the lock of the first


def test_the_entries_used_last_stay(tmp_path: Path, times_read: list[int]) -> None:
    configs = [TrainConfig(data=str(write(tmp_path / f"{i}.jsonl"))) for i in range(cache.KEPT + 1)]
    for at, config in enumerate(configs[:-1]):
        load_and_split(config)
        newest = max(cache.place().glob("[!.]*/"), key=os.path.getmtime)
        os.utime(newest, (at, at))
    load_and_split(configs[0])  # used again, so the second is the oldest now
    held = load_and_split(configs[1])
    newest = max(cache.place().glob("[!.]*/"), key=os.path.getmtime)
    os.utime(newest, (0, 0))
    assert len(times_read) == cache.KEPT
    load_and_split(configs[-1])
    assert len(list(cache.place().glob("[!.]*/"))) == cache.KEPT
    assert list(held[1].train) == list(without_cache(configs[1])[1].train)
    times_read.clear()
    for config in (configs[0], *configs[2:]):
        load_and_split(config)
    assert times_read == []
    load_and_split(configs[1])
    assert times_read == [1]


MANY = """
import sys
from qa_lora.config import TrainConfig
from qa_lora.data import cache, load_split, rows, store
store.collect.__kwdefaults__ = {"in_memory": 3}
cache.WORTH_BYTES = 1
read = rows._read_and_split
def told(*arguments, **named):
    print("read")
    return read(*arguments, **named)
rows._read_and_split = told
print(load_split(TrainConfig(data=sys.argv[1])).fingerprint)
"""


def test_of_two_processes_one_reads(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(map(len, said)) == [1, 2]
    assert said[0][-1] == said[1][-1]
