"""Fetch a base model from the Hub: told as it goes, stopped at any moment, gone on with next time.

The Hub's client throws away what it has of a file when it is stopped. So large files are fetched
here, into the place where the client's own cache expects them; what is left of one lies beside it.
All else, from the login to the folder that a model is read from, is the client's. Loads no torch.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qa_lora.errors import ModelError, QALoRAError
from qa_lora.files import replaced_file
from qa_lora.hub_access import TIMEOUT_SECONDS, ask, refusal_of
from qa_lora.hub_file import DownloadStoppedError, LargeFile, check_room, fetch_large

__all__ = [
    "Download",
    "bring",
    "commit_of",
    "describe",
    "find_here",
    "stop_all",
    "under_way",
    "watched",
]

BRANCH = "main"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_SMALL = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)"
    r"\.json|merges\.txt|(spiece|tokenizer|sentencepiece\.bpe)\.model"
)
TOKENIZERS = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
LOOK_SECONDS = 0.2

_lock = threading.Lock()
_under_way: list[Download] = []
_watchers: list[Callable[[Download], None]] = []


@dataclass(frozen=True)
class Plan:
    """What of a repository is needed, and where it goes."""

    repo: str
    commit: str
    large: tuple[LargeFile, ...]
    small: tuple[str, ...]
    small_bytes: int

    @property
    def total(self) -> int:
        """Bytes of all of it."""
        return self.small_bytes + sum(file.size for file in self.large)


class Download:
    """A base model on its way from the Hub, in a thread of its own.

    Args:
        repo: The model's id.
        commit: The state of it that is wanted; the newest if None.
        check: Looks at the folder while it has only the small files, and raises if the large ones
            are not worth fetching.
    """

    def __init__(
        self, repo: str, commit: str | None = None, check: Callable[[Path], None] | None = None
    ) -> None:
        self.repo = repo
        self._commit = commit
        self._check = check
        self._plan: Plan | None = None
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._folder: Path | None = None
        self._error: BaseException | None = None

    @property
    def total(self) -> int:
        """Bytes of all that is needed; 0 until the Hub has said it."""
        return self._plan.total if self._plan is not None else 0

    @property
    def done(self) -> int:
        """Bytes that are here."""
        plan = self._plan
        if plan is None:
            return 0
        return self.total if self._folder else sum(file.here for file in plan.large)

    @property
    def ended(self) -> bool:
        """Whether it is over, one way or the other."""
        return self._ended.is_set()

    def start(self) -> None:
        """Begin."""
        with _lock:
            _under_way.append(self)
        # A daemon: it ends with the process, whatever the Hub keeps it waiting for.
        threading.Thread(target=self._work, name=f"download {self.repo}", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until it is over, but no longer than this; whether it is."""
        return self._ended.wait(seconds)

    def stop(self) -> None:
        """End it; what is here already stays."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether somebody has asked for its end."""
        return self._stop.is_set()

    def result(self) -> Path:
        """The model's folder, once it is over.

        Raises:
            DownloadStoppedError: If it was stopped.
            ModelError: If the Hub does not give the model, or the disk does not take it.
        """
        if self._error is not None:
            raise self._error
        assert self._folder is not None
        return self._folder

    def _work(self) -> None:
        try:
            plan = self._plan = ask(lambda: make_plan(self.repo, self._commit), wait=self._pause)
            folder = self._fetch_small(plan)
            if self._check is not None:
                self._check(folder)
            check_room(plan.repo, plan.large)
            for file in plan.large:
                fetch_large(file, self._stop)
                self._fetch(
                    plan, file.name
                )  # the client finds it here, and lays it into the folder
            ref = folder.parents[1] / "refs" / BRANCH
            ref.parent.mkdir(exist_ok=True)
            with replaced_file(ref) as beside:
                beside.write_text(plan.commit, "utf-8")
            self._folder = folder
        except QALoRAError as error:
            self._error = error
        except Exception as error:  # the Hub's client raises many kinds, from several libraries
            refusal = refusal_of(error, self.repo, "model")
            self._error = ModelError(
                f"The model {self.repo} is no local folder, and {refusal.reason}.",
                refusal.hint or "Check the name and the network, or use pocket, which is bundled.",
            )
        finally:
            with _lock:
                _under_way.remove(self)
            self._ended.set()

    def _fetch_small(self, plan: Plan) -> Path:
        paths = {name: self._fetch(plan, name) for name in plan.small}
        if CONFIG not in paths:
            raise ModelError(f"The model {plan.repo} has no {CONFIG}.")
        return paths[CONFIG].parent

    def _fetch(self, plan: Plan, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        if self.stopped:
            raise DownloadStoppedError(self.repo)
        work = partial(hf_hub_download, plan.repo, name, revision=plan.commit)
        return Path(ask(work, wait=self._pause))

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise DownloadStoppedError(self.repo)


def bring(
    repo: str, commit: str | None = None, check: Callable[[Path], None] | None = None
) -> Path:
    """The folder of a base model of the Hub, fetched if it is not here.

    Whoever waits for it can be shown it by :func:`watched`, and end it by :func:`stop_all`.

    Args:
        repo: Its id.
        commit: The state of it that is wanted; any that is here, else the newest, if None.
        check: As for :class:`Download`.

    Raises:
        DownloadStoppedError: If it was stopped.
        ModelError: If the Hub does not give it, or it has no safetensors weights.
    """
    here = find_here(repo, commit)
    if here is not None:
        return here
    download = Download(repo, commit, check)
    download.start()
    try:
        while not download.wait(LOOK_SECONDS):
            for watcher in (*_watchers,):
                watcher(download)
    except BaseException:  # Ctrl-C, above all
        download.stop()
        raise
    for watcher in (*_watchers,):
        watcher(download)
    return download.result()


@contextmanager
def watched(watcher: Callable[[Download], None]) -> Iterator[None]:
    """Tell a function of every download in this process, several times a second."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def under_way() -> list[Download]:
    """The downloads of this process that are not over."""
    with _lock:
        return list(_under_way)


def stop_all() -> None:
    """Stop what is being downloaded in this process."""
    for download in under_way():
        download.stop()


def describe(repo: str, done: int, total: int) -> str:
    """How far a download is, as in "google/flan-t5-small 45 %, 140 of 308 MB"."""
    if not total:
        return repo
    return f"{repo} {100 * done // total} %, {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"


def find_here(repo: str, commit: str | None = None) -> Path | None:
    """The folder of a base model in the cache, if all of it is there; asks nobody.

    Args:
        repo: Its id.
        commit: The state of it that is wanted; the one that was fetched last if None.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):
        config = try_to_load_from_cache(repo, CONFIG, revision=commit or BRANCH)
        if isinstance(config, str):
            folder = Path(config).parent
            if _has_weights(folder) and _has_tokenizer(folder):
                return folder
    return None


def commit_of(repo: str) -> str | None:
    """The commit of the state of a base model that the cache has; None if it has none."""
    here = find_here(repo)
    return here.name if here is not None else None


def make_plan(repo: str, commit: str | None) -> Plan:
    """Ask the Hub what a model consists of, and choose what is needed: nothing that runs code.

    Raises:
        ModelError: If its weights are not safetensors.
        Exception: What the Hub's client raises.
    """
    from huggingface_hub import HfApi

    info = HfApi().model_info(repo, revision=commit, files_metadata=True, timeout=TIMEOUT_SECONDS)
    files: dict[str, Any] = {file.rfilename: file for file in info.siblings or ()}
    weights = [name for name in files if name == WEIGHTS]
    if not weights and INDEX in files:
        weights = [name for name in files if _SHARD.fullmatch(name)]
    if not weights:
        raise _no_weights(repo, list(files))
    large = [name for name in weights if files[name].lfs is not None]
    small = [name for name in files if _SMALL.fullmatch(name)]
    small += [name for name in weights if name not in large]
    small += [INDEX] if INDEX in files and WEIGHTS not in files else []
    sha: str = info.sha or ""
    return Plan(
        repo,
        sha,
        tuple(
            LargeFile(repo, sha, name, files[name].lfs.size, files[name].lfs.sha256)
            for name in large
        ),
        tuple(small),
        sum(files[name].size or 0 for name in small),
    )


def _no_weights(repo: str, names: list[str]) -> ModelError:
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if "adapter_config.json" in names:
        return ModelError(
            f"{repo} is an adapter, not a base model.", "Name the base model it was trained on."
        )
    if pickles:
        return ModelError(
            f"The model {repo} has its weights only as {pickles[0]}, a kind of file that can run "
            "code when it is read, so it is not downloaded.",
            "Choose a model with safetensors weights, such as google/flan-t5-base.",
        )
    return ModelError(
        f"The model {repo} has no {WEIGHTS}.",
        "Choose a transformers model with safetensors weights, such as google/flan-t5-base.",
    )


def _has_weights(folder: Path) -> bool:
    if (folder / WEIGHTS).is_file():
        return True
    try:
        parts = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return all((folder / str(part)).is_file() for part in parts)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZERS)
