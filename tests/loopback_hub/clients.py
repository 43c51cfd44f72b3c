"""Point clients that are imported already at another Hub, as a new interpreter would be."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def read_variables_again(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Take over what the variables say now: the clients read them when they are imported.

    Args:
        put: Sets an attribute; that of a monkeypatch can undo it.
    """
    # Not above: the tests set variables of their own before they import this for the first time.
    from huggingface_hub import close_session, constants, hf_api

    for name in ("huggingface_hub.constants", "datasets.config"):
        if name in sys.modules:
            old, new = sys.modules[name], _run_again(sys.modules[name])
            for key, value in vars(new).items():
                if key.isupper() and getattr(old, key, None) != value:
                    put(old, key, value)
    put(hf_api.api, "endpoint", constants.ENDPOINT)
    close_session()


def _run_again(module: ModuleType) -> ModuleType:
    spec = importlib.util.find_spec(module.__name__)
    assert spec is not None and spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy
