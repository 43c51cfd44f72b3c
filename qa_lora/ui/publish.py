"""The panel that publishes the run in view: look at every file, then upload.

A token is used for the one call it came with. It is kept in no state, no file and no message.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from qa_lora.card import CardFacts, default_examples
from qa_lora.card.facts import sources_of
from qa_lora.errors import PublishError, QALoRAError
from qa_lora.publishing import Plan, check, plan, upload
from qa_lora.publishing.collect import PLOT
from qa_lora.publishing.login import usable_token
from qa_lora.runs import Run
from qa_lora.serving import ServerSettings
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header
from qa_lora.ui.hub_login import hub_login
from qa_lora.ui.publish_shown import (
    account_html,
    files_html,
    for_the_page,
    how_to_log_in,
    verdict_html,
)
from qa_lora.ui.words import note

__all__ = ["PublishPanel", "build_publish", "shows_examples", "wire_publish"]

Update = dict[Any, Any]
LICENCES = ["apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "other"]
EXAMPLES = 3
EMPTY = (
    '<div class="empty"><b>Nothing is uploaded yet</b>Look shows every file, searches them for '
    "tokens and paths of this machine, and writes the model card.</div>"
)


@dataclass(frozen=True)
class PublishPanel:
    """The components."""

    account: Any
    repo_id: Any
    private: Any
    licence: Any
    examples: Any
    token: Any
    look: Any
    publish: Any
    message: Any
    replace: Any
    files: Any
    preview: Any
    card: Any
    plot: Any
    agreed: Any
    """What a second yes would be said to: the plan's questions, and the commit they are about."""


def build_publish(serving: ServerSettings, *, examples: bool = False) -> PublishPanel:
    """Lay the panel out.

    Args:
        serving: On a public server visitors use tokens of their own.
        examples: Whether answers are shown in the card unless somebody wishes otherwise.
    """
    account = gr.HTML(account_html(serving), elem_id="publish-account", js_on_load=None)
    with gr.Row(equal_height=False):
        repo_id = gr.Textbox(
            label="Repository", placeholder="your-name/my-qa-adapter", max_lines=1, scale=3,
            min_width=240, elem_id="publish-repo", interactive=True,
        )  # fmt: skip
        licence = gr.Dropdown(
            [("not named", ""), *((name, name) for name in LICENCES)], value="", scale=2,
            label="Licence of the adapter", allow_custom_value=True, min_width=180,
            interactive=True, elem_id="publish-licence",
        )  # fmt: skip
    with gr.Row(equal_height=False):
        private = gr.Checkbox(
            True, label="Private", info="Only you see it; you can change that on the Hub.",
            interactive=True, min_width=200, elem_id="publish-private",
        )  # fmt: skip
        with_examples = gr.Checkbox(
            examples, label=f"Show {EXAMPLES} answers in the card", interactive=True, min_width=200,
            info="Held-out questions of your data, with both answers.", elem_id="publish-examples",
        )  # fmt: skip
    with gr.Accordion("Another token", open=False, elem_id="publish-other"):
        token = gr.Textbox(
            label="Token", type="password", max_lines=1, interactive=True, elem_id="publish-token",
            info="With write access. It is used for the next step and kept nowhere.",
        )  # fmt: skip
    with gr.Row(elem_id="publish-buttons"):
        look = gr.Button("Look", elem_id="publish-look", min_width=110)
        publish = gr.Button("Publish", variant="primary", elem_id="publish-go", min_width=110)
    message = gr.HTML(elem_id="publish-message", js_on_load=None)
    replace = gr.Button("Yes, replace it", variant="stop", visible=False, elem_id="publish-replace")
    files = gr.HTML(EMPTY, elem_id="publish-files", js_on_load=None)
    with gr.Accordion(
        "Model card", open=False, visible=False, elem_id="publish-preview"
    ) as preview:
        plot = gr.HTML(elem_id="publish-plot", js_on_load=None)
        card = gr.Markdown(elem_id="publish-card", latex_delimiters=[])
    agreed = gr.State("")
    return PublishPanel(
        account, repo_id, private, licence, with_examples, token, look, publish, message, replace,
        files, preview, card, plot, agreed,
    )  # fmt: skip


def wire_publish(engine: Engine, header: Header, panel: PublishPanel, opened: Any) -> None:
    """Connect the panel's events.

    Args:
        engine: What the server holds.
        header: The shared header: its run in view is what is published.
        panel: The components.
        opened: The event of a page that opens; nobody signs in without opening one anew.
    """

    def allowed(typed: str | None) -> str | None:
        """The token to use, None where nobody is logged in."""
        login = hub_login() if not (typed or "").strip() else None
        theirs = login.usable_token() if login is not None else None
        return usable_token(theirs, typed or "", public=engine.serving.public)

    def planned(
        run_id: str | None, repo_id: str, private: bool, licence: str, examples: bool,
        token: str | None, *, offline: bool,
    ) -> Plan:  # fmt: skip
        if engine.find(run_id) is None:
            raise PublishError("There is no run in view.", "Train one first.")
        return plan(
            engine.own(run_id),
            str(repo_id or "").strip(),
            token=token,
            private=bool(private),
            licence=str(licence or "").strip(),
            examples=EXAMPLES if examples else 0,
            offline=offline,
        )

    def look(
        run_id: str | None, repo_id: str, private: bool, licence: str, examples: bool, typed: str
    ) -> Iterator[Update]:  # fmt: skip
        yield {panel.message: note("Looking at the run and at the Hub…")}
        try:
            token = allowed(typed)
            found = planned(run_id, repo_id, private, licence, examples, token, offline=True)
        except QALoRAError as error:
            yield {**_cleared(panel), panel.message: note(str(error), "bad")}
            return
        yield {**_shown(panel, found), panel.message: verdict_html(found)}

    def go(
        run_id: str | None, repo_id: str, private: bool, licence: str, examples: bool,
        typed: str, agreed: str,
    ) -> Iterator[Update]:  # fmt: skip
        yield {panel.message: note("Looking at the run and at the Hub…"), panel.replace: _hidden()}
        try:
            token = allowed(typed)
            if token is None:
                raise PublishError("Publishing needs a login.", how_to_log_in(engine.serving))
            found = planned(run_id, repo_id, private, licence, examples, token, offline=False)
            update = agreed == _question(found)
            if found.asks and not update and not found.findings and not found.exposes:
                yield {
                    **_shown(panel, found),
                    panel.message: note(" ".join(found.asks), "warn"),
                    panel.replace: gr.Button(visible=True),
                    panel.agreed: _question(found),
                }
                return
            check(found, update=update)
            size = sum(file.size for file in found.changes) / 1e6
            yield {
                **_shown(panel, found),
                panel.message: note(f"Uploading {len(found.changes)} files, {size:.1f} MB…"),
            }
            done = upload(found, token, update=update)
        except QALoRAError as error:
            yield {panel.message: note(for_the_page(str(error)), "bad"), panel.agreed: ""}
            return
        seen = "private" if done.private else "public"
        what = f"{done.files} files uploaded" if done.files else "All files were there already"
        link = escape(done.url)
        yield {
            **_cleared(panel),
            panel.files: "",
            panel.message: f'<div class="note good">{what}: <a href="{link}" target="_blank" '
            f'rel="noopener noreferrer">{link}</a> ({seen})</div>',
            panel.token: "",
        }

    def press(
        run_id: str | None, repo_id: str, private: bool, licence: str, examples: bool, typed: str
    ) -> Iterator[Update]:  # fmt: skip
        """The first click: nothing is agreed to yet."""
        yield from go(run_id, repo_id, private, licence, examples, typed, "")

    inputs = [
        header.run, panel.repo_id, panel.private, panel.licence, panel.examples, panel.token,
    ]  # fmt: skip
    outputs = [
        panel.message, panel.replace, panel.files, panel.preview, panel.card, panel.plot,
        panel.agreed, panel.token,
    ]  # fmt: skip
    options: dict[str, Any] = {
        "show_progress": "minimal", "show_progress_on": [panel.message],
        "api_visibility": "private", "concurrency_limit": 4, "concurrency_id": "publish",
        "trigger_mode": "once",
    }  # fmt: skip
    quiet: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    gr.on([panel.look.click, panel.repo_id.submit], look, inputs, outputs, **options)
    panel.publish.click(press, inputs, outputs, **options)
    panel.replace.click(go, [*inputs, panel.agreed], outputs, **options)
    header.viewed.change(
        lambda run_id: gr.Checkbox(value=shows_examples(engine.find(run_id))),
        header.viewed, panel.examples, **quiet,
    )  # fmt: skip
    if engine.serving.sign_in:
        opened(lambda: account_html(engine.serving, hub_login()), None, panel.account, **quiet)
    gr.on(
        [header.viewed.change, panel.repo_id.change, panel.private.change],
        lambda: {**_cleared(panel), panel.message: ""},
        None,
        [each for each in outputs if each is not panel.token],
        trigger_mode="always_last",
        **quiet,
    )


def shows_examples(run: Run | None) -> bool:
    """Whether a card of this run shows answers unless somebody wishes otherwise."""
    if run is None:
        return False
    try:
        config = run.config()
    except QALoRAError:  # which is said when it is looked at
        return False
    return default_examples(CardFacts(config, sources_of(config))) > 0


def _question(found: Plan) -> str:
    """What would be agreed to: these questions, about this state of this repository."""
    return repr((found.run, found.repo_id, found.asks, found.head)) if found.asks else ""


def _hidden() -> Any:
    return gr.Button(visible=False)


def _cleared(panel: PublishPanel) -> Update:
    return {
        panel.replace: _hidden(),
        panel.files: EMPTY,
        panel.preview: gr.Accordion(visible=False),
        panel.card: "",
        panel.plot: "",
        panel.agreed: "",
    }


def _shown(panel: PublishPanel, found: Plan) -> Update:
    body = re.sub(r"\A---\n.*?\n---\n", "", found.card, flags=re.DOTALL)
    body = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", body)
    picture = next((file.content for file in found.files if file.name == PLOT), b"")
    assert isinstance(picture, bytes)
    source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    return {
        panel.replace: _hidden(),
        panel.files: files_html(found),
        panel.preview: gr.Accordion(visible=True),
        panel.card: body,
        panel.plot: f'<img src="{source}" alt="Losses" class="publish-plot">' if picture else "",
    }
