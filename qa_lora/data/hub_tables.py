"""Data sets of the Hugging Face Hub -> tables: a whole one, a split of it, or one of its files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from qa_lora.data.parts import Part, licence_in, open_local, reason, sides_of
from qa_lora.data.readers import ENDINGS, Table
from qa_lora.data.sources import Source, parse
from qa_lora.errors import DataError
from qa_lora.hub_access import ask, why_not

__all__ = ["commits_of", "hub_licence", "open_hub"]

BATCH_ROWS = 1000
_OTHERWISE = "Give a local file ({}) or atlas, the bundled questions.".format(" ".join(ENDINGS))


def open_hub(source: Source, *, streaming: bool, max_bytes: int | None) -> list[Part]:
    """Open a data set of the Hub: a part for each of its splits.

    Args:
        source: With a `repo`.
        streaming: Read rows over the network as they are needed; keep nothing on disk. One file is
            always fetched as a whole.
        max_bytes: Refuse a file that is larger.

    Raises:
        DataError: If the Hub cannot be reached, does not give it, or it holds no rows.
    """
    if source.file is not None:
        return open_local(Source(str(_fetch(source, source.file))), max_bytes)
    import datasets

    assert source.repo is not None
    cached = Path(datasets.config.HF_DATASETS_CACHE) / source.repo.replace("/", "___")
    if streaming or not cached.exists():
        _ask_hub(source.repo, f"There is no file {source.name}")
    try:
        loaded: Any = datasets.load_dataset(
            source.repo,
            source.subset,
            split=source.split,
            revision=source.revision,
            streaming=streaming,
        )
    except Exception as error:  # the Hub's client raises many kinds, from several libraries
        raise _cannot_load(source, error) from None
    if source.split is not None:
        parts = [_part(source, loaded, source.label, source.split, None)]
    else:
        # A split that the user names is what there is; one the data set names is a side.
        sides = sides_of(list(loaded)) if len(loaded) > 1 else [None]
        parts = [
            _part(source, split, " ".join([source.label, name][: len(loaded)]), name, side)
            for (name, split), side in zip(loaded.items(), sides, strict=True)
        ]
    parts = [part for part in parts if part.rows != 0]
    if not parts:
        raise DataError(f"{source.repo} names columns but holds no rows.")
    return parts


def hub_licence(source: Source) -> str | None:
    """The licence of a data set that was opened, if its card is here and names one."""
    from huggingface_hub import try_to_load_from_cache

    assert source.repo is not None
    card = try_to_load_from_cache(
        source.repo, "README.md", repo_type="dataset", revision=source.revision
    )
    return licence_in(Path(card)) if isinstance(card, str) else None


def commits_of(text: str) -> dict[str, str]:
    """The commits of the data sets that the setting `data` names, as far as the cache knows them.

    Args:
        text: The setting.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    found = {}
    for repo, revision in {(s.repo, s.revision) for s in parse(text) if s.repo is not None}:
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="dataset")
        with contextlib.suppress(OSError):
            found[repo] = (folder / "refs" / (revision or "main")).read_text("utf-8").strip()
    return found


def _fetch(source: Source, file: str) -> Path:
    """One file of the repository, from the cache or the Hub; its card too, for the licence."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    assert source.repo is not None
    of: dict[str, Any] = {"repo_type": "dataset", "revision": source.revision}
    cached = try_to_load_from_cache(source.repo, file, **of)
    if isinstance(cached, str):
        return Path(cached)
    _ask_hub(source.repo, f"{source.name} is asked for")
    try:
        fetched: str = ask(partial(hf_hub_download, source.repo, file, **of))
    except Exception as error:  # the Hub's client raises many kinds, from several libraries
        raise DataError(
            f"{file} of {source.repo} could not be loaded from the Hub: {reason(error)}."
        ) from None
    with contextlib.suppress(Exception):  # without a card the licence is unknown, no more
        hf_hub_download(source.repo, "README.md", **of)
    return Path(fetched)


def _part(source: Source, data: Any, name: str, split: str, side: str | None) -> Part:
    return Part(
        _table(source, data, name), side, _length(data), _expected(data, split), _files(data)
    )


def _expected(data: Any, split: str) -> int | None:
    """How many rows a split has as the data set's card says."""
    said = (data.info.splits or {}).get(split)
    return (said.num_examples or None) if said is not None else None


def _table(source: Source, data: Any, name: str) -> Table:
    def rows() -> Iterator[dict[str, Any]]:
        try:
            for batch in data.iter(BATCH_ROWS):
                names = list(batch)
                for values in zip(*batch.values(), strict=True):
                    yield dict(zip(names, values, strict=True))
        except Exception as error:  # the network may fail in the middle of a stream
            raise _cannot_load(source, error) from None

    columns = data.column_names
    if columns is not None:
        return Table(name, tuple(columns), rows)
    # A stream whose columns only its rows tell; what was read for them is not read again.
    begun = rows()
    first = list(islice(begun, 1))
    opened = [chain(first, begun)]
    return Table(name, tuple(first[0] if first else ()), lambda: opened.pop() if opened else rows())


def _length(data: Any) -> int | None:
    return len(data) if hasattr(data, "__len__") else None


def _files(data: Any) -> tuple[Path, ...]:
    """The Arrow files that the library made of a data set; a stream has none."""
    return tuple(Path(file["filename"]) for file in getattr(data, "cache_files", ()))


def _cannot_load(source: Source, error: Exception) -> DataError:
    return DataError(
        f"{source.name} could not be loaded from the Hub: {reason(error)}.",
        f"Name a subset as {source.repo} subset=NAME, or one file as "
        f"hf://datasets/{source.repo}/FILE.",
    )


def _ask_hub(repo: str, why: str) -> None:
    """Fail at once, rather than after the downloader's retries, if the Hub cannot give `repo`.

    Args:
        repo: A data set's id.
        why: The first half of the sentence that says so: why the Hub was asked.
    """
    refusal = why_not(repo, "dataset")
    if refusal is not None:
        raise DataError(f"{why}, and {refusal.reason}.", refusal.hint or _OTHERWISE)
