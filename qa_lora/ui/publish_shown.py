"""What the panel that publishes shows: who publishes, every file, and whether it can go."""

from __future__ import annotations

from html import escape

from qa_lora.errors import PublishError
from qa_lora.publishing import Plan, check
from qa_lora.publishing.login import machine_token
from qa_lora.serving import ServerSettings
from qa_lora.ui.hub_login import HubLogin
from qa_lora.ui.words import note

__all__ = ["account_html", "files_html", "for_the_page", "how_to_log_in", "verdict_html"]

CHANGES = {
    "new": "new",
    "changed": "changed",
    "same": "there already",
    "unknown": "",
}


def account_html(serving: ServerSettings, login: HubLogin | None = None) -> str:
    """Who would publish, as far as that is known without asking the Hub."""
    if login is not None:
        try:
            login.usable_token()
        except PublishError as error:
            return note(str(error), "warn")
        return note(
            f"You are signed in as {login.name}, and publish under that name. Of your repositories "
            "this app reaches those that it made; enter a token for others."
        )
    if not serving.public and machine_token():
        return note("This machine's Hub login is used.")
    if serving.public:
        return note(f"You publish under your own name. {how_to_log_in(serving)}")
    return note(f"Nobody is logged in here. {how_to_log_in(serving)}", "warn")


def how_to_log_in(serving: ServerSettings) -> str:
    """What to do without a login."""
    if serving.sign_in:
        return "Sign in with Hugging Face, on top of the page, or enter a token."
    if serving.public:
        return "Enter a token of yours, from the settings of your account on the Hub."
    return "Run hf auth login in a terminal, set HF_TOKEN, or enter a token."


def verdict_html(found: Plan) -> str:
    """Whether what was looked at can be uploaded, in a sentence."""
    if found.findings:
        count = len(found.findings)
        return note(
            f"{count} thing{'s' if count > 1 else ''} must be taken out before this can leave the "
            "machine.",
            "bad",
        )
    try:
        check(found, update=True)
    except PublishError as error:
        return note(for_the_page(str(error)), "bad")
    who = f"as {found.account}" if found.account else "once somebody is logged in"
    seen = "private" if found.private else "public"
    if found.exists:
        changes = len(found.changes)
        what = f"{changes} files would be uploaded" if changes else "All files are there already"
    else:
        what = f"{len(found.files)} files would be uploaded to a new repository"
    return note(f"{what}, {seen}, {who}.", "warn" if found.asks else "")


def for_the_page(text: str) -> str:
    """The same sentence for somebody who has a page and no command line."""
    return text.replace("Say so (--public)", "Untick Private").replace("--update", "so")


def files_html(found: Plan) -> str:
    """Every file with what was found in it, and what should be known."""
    rows = "".join(
        f"<tr><td>{escape(file.name)}</td><td class='number'>{_size(file.size)}</td>"
        f"<td>{CHANGES[file.change]}</td><td class='{'found' if file.findings else ''}'>"
        + (
            "<br>".join(
                escape(f"line {f.line}: {f.what}" if f.line else f.what) for f in file.findings
            )
            or "nothing"
        )
        + "</td></tr>"
        for file in found.files
    )
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in (*found.notes, *found.asks))
    return (
        '<div class="publish-table"><table><thead><tr><th>File</th><th class="number">Size</th>'
        "<th>On the Hub</th><th>Tokens and paths found</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>" + (f"<ul>{said}</ul>" if said else "")
    )


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
