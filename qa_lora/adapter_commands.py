"""The commands about adapters: ``import-adapter``, ``adapters``, ``remove-adapter``, ``merge``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qa_lora import terminal
from qa_lora.imported import list_imported, remove_imported
from qa_lora.importing import import_adapter

__all__ = ["add_commands"]

Result = dict[str, Any]
Add = Callable[[str, Callable[[argparse.Namespace], Result], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Declare the commands.

    Args:
        add: Takes a command's name, its function and its sentence of help.
    """
    bring = add("import-adapter", _import, "keep a LoRA adapter from elsewhere beside the runs")
    bring.add_argument("source", metavar="SOURCE", help="a folder, a .zip of one, or a Hub id")
    bring.add_argument("--name", default="", metavar="N", help="what it is to be called")
    bring.add_argument("--revision", metavar="R", help="of a Hub id: a branch, tag or commit")
    bring.add_argument(
        "--base",
        default="",
        metavar="B",
        help="its base model, where its settings name a folder of another machine",
    )

    add("adapters", _list, "list the imported adapters")

    remove = add("remove-adapter", _remove, "delete an imported adapter")
    remove.add_argument("name", metavar="NAME", help="of an imported adapter")

    merge = add("merge", _merge, "write base and adapter as one model that transformers loads")
    merge.add_argument(
        "run", metavar="RUN", help="a run, an imported adapter, an adapter's folder or its Hub id"
    )
    merge.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    merge.add_argument(
        "--precision",
        choices=["fp32", "bf16"],
        default="fp32",
        help="of the written weights: fp32 answers as the adapter does, bf16 takes half the room "
        "and may change a few answers (default: fp32)",
    )
    merge.add_argument(
        "--overwrite", action="store_true", help="replace an earlier merged model in that folder"
    )


def _import(parsed: argparse.Namespace) -> Result:
    kept = import_adapter(
        parsed.source,
        parsed.runs_dir,
        name=parsed.name,
        revision=parsed.revision,
        base=parsed.base,
    )
    terminal.say(
        f"Imported {kept.name}: a LoRA adapter for {kept.base}, {kept.made_of()}.",
        quiet=parsed.json,
    )
    terminal.say(f"Use it as a run: qa-lora ask QUESTION --run {kept.name}", quiet=parsed.json)
    return kept.summary()


def _list(parsed: argparse.Namespace) -> Result:
    found = list_imported(parsed.runs_dir)
    if not found:
        terminal.say(
            f"There are no imported adapters in {parsed.runs_dir}; import-adapter brings one in.",
            quiet=parsed.json,
        )
    for each in found:
        where = f"{each.source} at {each.commit[:8]}" if each.commit else each.source
        terminal.say(
            f"{each.name}  on {each.base}, {each.made_of()}  ({each.kind} {where}, "
            f"{each.when[:10]})",
            quiet=parsed.json,
        )
    return {"adapters": [each.summary() for each in found]}


def _remove(parsed: argparse.Namespace) -> Result:
    remove_imported(parsed.name, parsed.runs_dir)
    terminal.say(f"Removed {parsed.name}.", quiet=parsed.json)
    return {"removed": parsed.name}


def _merge(parsed: argparse.Namespace) -> Result:
    from qa_lora.merging import merge

    done = merge(
        parsed.run,
        Path(parsed.out),
        parsed.precision,
        runs_dir=parsed.runs_dir,
        overwrite=parsed.overwrite,
    )
    terminal.say(
        f"Wrote {done.folder}: {done.base} with the adapter merged in, "
        f"{done.parameters / 1e6:.1f} M parameters in {done.precision}, {done.bytes / 1e6:.0f} MB.",
        quiet=parsed.json,
    )
    return {
        "folder": str(done.folder),
        "base": done.base,
        "precision": done.precision,
        "parameters": done.parameters,
        "bytes": done.bytes,
    }
