"""What signing in with Hugging Face needs where the app runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

__all__ = ["missing_for_sign_in"]

PACKAGES = ("authlib", "itsdangerous")
VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
"""What a Space with ``hf_oauth: true`` sets."""


def missing_for_sign_in(environment: Mapping[str, str]) -> str:
    """Why nobody can sign in here, in a sentence; empty where they can.

    Outside of a Space gradio would sign everybody in as the account of this machine, and with an
    empty secret anybody could write a session of their own, so neither is left to chance.

    Args:
        environment: The variables of the process.
    """
    if environment.get("SYSTEM") != "spaces" or not environment.get("SPACE_ID", "").strip():
        return "Signing in with Hugging Face works on a Space only, and this is none."
    unset = [name for name in VARIABLES if not environment.get(name, "").strip()]
    if unset:
        return (
            f"Signing in with Hugging Face needs {' and '.join(unset)}, which a Space has when its "
            "README says hf_oauth: true."
        )
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return (
            "Signing in with Hugging Face needs gradio[oauth] in requirements.txt: "
            f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed."
        )
    return ""
