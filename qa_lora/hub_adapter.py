"""An adapter of the Hub: only the files that are needed, and never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qa_lora.adapter_archive import choose_folder
from qa_lora.adapter_settings import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from qa_lora.adapter_weights import without_weights
from qa_lora.errors import ModelError
from qa_lora.hub_access import TIMEOUT_SECONDS, ask, is_offline, refusal_of

__all__ = ["download"]


def download(repo: str, wanted: Mapping[str, int], revision: str | None = None) -> tuple[Path, str]:
    """Download an adapter, or take it from the cache of the Hub's client if it is there whole.

    Args:
        repo: Its Hub id.
        wanted: Names of the files to take, with the most bytes each may have.
        revision: A branch, tag or commit; the main branch if None.

    Returns:
        Its folder in the cache, and the commit it is of.

    Raises:
        ModelError: If the Hub does not give it, or it is no adapter that is read.
    """
    from huggingface_hub import HfApi, snapshot_download

    what = f"The adapter {repo}"
    sha, error = revision, None
    if not is_offline():
        try:
            info: Any = ask(
                lambda: HfApi().model_info(
                    repo, revision=revision, files_metadata=True, timeout=TIMEOUT_SECONDS
                )
            )
            sha = info.sha
            _check_listing({f.rfilename: f.size or 0 for f in info.siblings or ()}, wanted, what)
        except ModelError:
            raise
        except Exception as said:  # the Hub's client raises errors of several libraries
            error = said
    try:
        here = error is not None or is_offline()
        folder = Path(
            ask(
                lambda: snapshot_download(
                    repo, revision=sha, allow_patterns=list(wanted), local_files_only=here
                )
            )
        )
    except Exception as said:  # as above
        refusal = refusal_of(error or said, repo, "adapter")
        raise ModelError(
            f"{what} is no local run, folder or imported adapter, and {refusal.reason}.",
            refusal.hint or "Check the name and the network.",
        ) from None
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"{what} holds no {ADAPTER_CONFIG}.", "It is no adapter, or was only loaded by half."
        )
    return folder, folder.name


def _check_listing(sizes: Mapping[str, int], wanted: Mapping[str, int], what: str) -> None:
    """Refuse by the list of its files, before anything is downloaded."""
    where = choose_folder(list(sizes), what)
    if where:
        raise ModelError(
            f"{what} holds its {ADAPTER_CONFIG} in the folder {where.rstrip('/')}.",
            "Download that folder and import it from there.",
        )
    if ADAPTER_WEIGHTS not in sizes:
        raise without_weights(sizes, what)
    for name, most in wanted.items():
        if sizes.get(name, 0) > most:
            raise ModelError(f"{what} is too large: {name} has {sizes[name]:,} bytes.")
