"""A name -> a table: the bundled questions, a file, or a data set of the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from qa_lora.bundled import ATLAS
from qa_lora.data.readers import ENDINGS, ending_of, read_file
from qa_lora.errors import DataError
from qa_lora.hub_access import why_not

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SPLIT_NAMES", "UPLOAD_LIMIT_BYTES", "read_table", "source_name"]

UPLOAD_LIMIT_BYTES = 200 * 1024**2

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "development": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
"""How data sets name their splits, and what this project calls them."""

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(:(?P<subset>[^/\\]+))?")
_HUB_FILE = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)/(?P<path>.+)")
_NOT_ON_THE_HUB = "Give a local file ({}) or atlas, the bundled questions.".format(
    " ".join(ENDINGS)
)
_OTHER_FILES = {
    *(".xls", ".ods", ".txt", ".text", ".md", ".zip", ".gz", ".zst", ".pdf", ".doc", ".docx"),
    *(".arrow", ".feather", ".db", ".sqlite", ".yaml", ".yml", ".xml", ".html"),
}


def read_table(source: str, *, max_bytes: int | None = None) -> pa.Table:
    """Read a source of questions and answers.

    Args:
        source: ``atlas``, a file (:data:`qa_lora.data.readers.ENDINGS`), a Hub id (``owner/name``,
            or ``owner/name:subset``), or one file on the Hub (``hf://datasets/owner/name/file``).
        max_bytes: Refuse a local file that is larger than this.

    Raises:
        DataError: If there is no such source or it holds no readable table.
    """
    source = source.strip()
    if not source or "\0" in source:
        raise DataError("No data is named.", _NOT_ON_THE_HUB)
    if source == "atlas":
        return _read_path(ATLAS, None)
    if match := _HUB_FILE.fullmatch(source):
        return _read_hub_file(match["repo"], match["path"], max_bytes)
    path = Path(source).expanduser()
    try:
        exists = path.exists()
    except OSError as error:
        raise DataError(f"{source!r} cannot be read: {_reason(error)}.") from None
    if exists:
        return _read_path(path, max_bytes)
    match = _HUB_ID.fullmatch(source)
    if match is None or ending_of(path) or path.suffix.lower() in _OTHER_FILES:
        raise DataError(f"There is no file {source}.")
    return _read_hub(match["repo"], match["subset"])


def source_name(source: str) -> str:
    """A source's short name for messages and reports: a file's name without its folder."""
    return PurePath(source).name if ending_of(source) else source


def _read_path(path: Path, max_bytes: int | None) -> pa.Table:
    endings = f"The supported endings are {' '.join(ENDINGS)}."
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder, not a file.", "Name the file inside it.")
        if ending_of(path) is None:
            ending = f"the ending {path.suffix}" if path.suffix else "no ending"
            raise DataError(f"{path.name} has {ending}, which cannot be read.", endings)
        if not path.is_file():
            raise DataError(
                f"There is no file {path}." if not path.exists() else f"{path} is no file."
            )
        size = path.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise DataError(
                f"{path.name} has {size / 1024**2:,.0f} MB, and at most "
                f"{max_bytes / 1024**2:,.0f} MB are accepted.",
                "Use fewer rows, or save it as Parquet, which is smaller.",
            )
        return read_file(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from None


def _read_hub_file(repo: str, path: str, max_bytes: int | None) -> pa.Table:
    """One file of a data set repository, read as a local one is."""
    if ending_of(path) is None:
        raise DataError(
            f"{PurePath(path).name} on the Hub cannot be read.",
            f"The supported endings are {' '.join(ENDINGS)}.",
        )
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repo, path, repo_type="dataset")
    if not isinstance(cached, str):
        _ask_hub(repo, f"hf://datasets/{repo}/{path} is asked for")
        try:
            cached = hf_hub_download(repo, path, repo_type="dataset")
        except Exception as error:  # the Hub's client raises many kinds, from several libraries
            raise DataError(
                f"{path} of {repo} could not be loaded from the Hub: {_reason(error)}."
            ) from None
    return _read_path(Path(cached), max_bytes)


def _read_hub(repo: str, subset: str | None) -> pa.Table:
    """All splits of a Hub data set as one table, with a column `split` where there are several."""
    import datasets
    import pyarrow as pa

    cached = Path(datasets.config.HF_DATASETS_CACHE) / repo.replace("/", "___")
    if not cached.exists():
        _ask_hub(repo, f"There is no file {repo}")
    try:
        loaded: Any = datasets.load_dataset(repo, subset)
        tables = {name: part.with_format("arrow")[:] for name, part in loaded.items()}
    except Exception as error:  # the Hub's client raises many kinds, from several libraries
        raise DataError(
            f"{repo} could not be loaded from the Hub: {_reason(error)}.",
            f"Name a subset as {repo}:subset, or one file as hf://datasets/{repo}/file.",
        ) from None
    if len(tables) > 1 and not any("split" in table.column_names for table in tables.values()):
        for name, table in tables.items():
            label = SPLIT_NAMES.get(name.lower())
            labels = pa.array([label] * table.num_rows, pa.string())
            tables[name] = table.append_column("split", labels)
    try:
        table = pa.concat_tables(tables.values(), promote_options="permissive")
    except pa.ArrowException:
        raise DataError(
            f"The splits of {repo} have different columns ({', '.join(tables)}).",
            f"Name one of its files: hf://datasets/{repo}/<file>.",
        ) from None
    if table.num_rows == 0:
        raise DataError(f"{repo} names columns but holds no rows.")
    return table


def _ask_hub(repo: str, why: str) -> None:
    """Fail at once, rather than after the downloader's retries, if the Hub cannot give `repo`.

    Args:
        repo: A data set's id.
        why: The first half of the sentence that says so: why the Hub was asked.
    """
    refusal = why_not(repo, "dataset")
    if refusal is not None:
        raise DataError(f"{why}, and {refusal.reason}.", refusal.hint or _NOT_ON_THE_HUB)


def _reason(error: Exception) -> str:
    """The first line of a foreign error, without its full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
