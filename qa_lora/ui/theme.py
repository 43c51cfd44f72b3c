"""The theme; the colours of "tuned" and "base" and all else of our own are in style.css."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["STYLES", "make_theme"]

STYLES = [
    Path(__file__).with_name(name)
    for name in ("style.css", "evaluate.css", "runs.css", "publish.css")
]


def make_theme() -> Any:
    """The gradio theme: teal accent, slate neutrals, system fonts, so no network."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        font=("ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Arial", "sans-serif"),
        font_mono=("ui-monospace", "Consolas", "Liberation Mono", "monospace"),
    ).set(
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_hover_dark="#115e59",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_primary_border_color="#0f766e",
        button_primary_border_color_dark="#0f766e",
        checkbox_background_color_selected="#0f766e",
        checkbox_background_color_selected_dark="#0f766e",
        slider_color="#0f766e",
        slider_color_dark="#2dd4bf",
        color_accent="#0f766e",
        border_color_accent="#0f766e",
        border_color_accent_dark="#2dd4bf",
        input_placeholder_color="#64748b",
        input_placeholder_color_dark="#94a3b8",
        block_info_text_color="#526077",
        block_info_text_color_dark="#a3b1c6",
        body_text_color_subdued="#526077",
        body_text_color_subdued_dark="#a3b1c6",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
    )
