"""What the panel that publishes shows: who publishes, every file, and whether it can go."""

from __future__ import annotations

from html import escape

from qa_lora.errors import PublishError
from qa_lora.publishing import Plan, check
from qa_lora.publishing.login import machine_token
from qa_lora.ui.words import note

__all__ = ["account_html", "files_html", "for_the_page", "how_to_log_in", "verdict_html"]

CHANGES = {
    "new": "new",
    "changed": "changed",
    "same": "there already",
    "unknown": "",
}


def account_html(*, public: bool) -> str:
    """Who would publish, as far as that is known without asking the Hub."""
    if public:
        return note("You publish with your own Hugging Face login, under your own name.")
    if machine_token():
        return note("This machine's Hub login is used.")
    return note(f"Nobody is logged in here. {how_to_log_in(public=False)}", "warn")


def how_to_log_in(*, public: bool) -> str:
    """What to do without a login."""
    if public:
        return "Log in with Hugging Face on this page, or enter a token."
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
