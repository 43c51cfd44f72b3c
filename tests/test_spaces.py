"""The Space: README's front matter is what spaces_config.yaml says, and what this project pins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from qa_lora.errors import ConfigError
from qa_lora.spaces import SpaceConfig, front_matter, main, read_front_matter, write_front_matter

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def config() -> SpaceConfig:
    return SpaceConfig.from_yaml(ROOT / "spaces_config.yaml")


def changed(tmp_path: Path, **values: Any) -> Path:
    """A copy of spaces_config.yaml with other values; None takes a key out."""
    settings = yaml.safe_load((ROOT / "spaces_config.yaml").read_text(encoding="utf-8"))
    settings |= values
    path = tmp_path / "spaces_config.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in settings.items() if v is not None}))
    return path


def test_readme_says_what_the_config_says(config: SpaceConfig) -> None:
    assert read_front_matter(ROOT / "README.md") == front_matter(config), "run: make space-card"


def test_readme_is_as_the_generator_writes_it(tmp_path: Path, config: SpaceConfig) -> None:
    readme = tmp_path / "README.md"
    readme.write_bytes((ROOT / "README.md").read_bytes())
    write_front_matter(readme, config)
    assert readme.read_bytes() == (ROOT / "README.md").read_bytes()


def test_space_runs_the_pinned_gradio(config: SpaceConfig) -> None:
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert f"gradio=={config.sdk_version}\n" in pins


def test_space_python_is_one_the_project_supports(config: SpaceConfig) -> None:
    raw = yaml.safe_load((ROOT / "spaces_config.yaml").read_text(encoding="utf-8"))
    assert isinstance(raw["python_version"], str), "3.10 without quotes is the number 3.1"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"Programming Language :: Python :: {config.python_version}" in project


def test_space_starts_a_file_that_exists(config: SpaceConfig) -> None:
    assert (ROOT / config.app_file).is_file()


def test_space_storage_holds_the_runs(config: SpaceConfig) -> None:
    (volume,) = config.volumes
    assert config.variables["QA_LORA_RUNS_DIR"].startswith(f"{volume.mount_path}/")


def test_what_the_hub_does_not_read_stays_out_of_the_front_matter(config: SpaceConfig) -> None:
    written = front_matter(config)
    assert written.keys().isdisjoint({"hardware", "volumes", "variables", "secrets"})
    assert "datasets" not in front_matter(config.model_copy(update={"datasets": ()}))


def test_writing_keeps_the_text_below(tmp_path: Path, config: SpaceConfig) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("---\ntitle: Old\n---\n\n# Heading\n\ntext --- with dashes\n", "utf-8")
    write_front_matter(readme, config)

    assert read_front_matter(readme)["title"] == "QA LoRA"
    assert readme.read_text("utf-8").endswith("---\n\n# Heading\n\ntext --- with dashes\n")


def test_writing_puts_a_block_in_front_of_a_plain_readme(
    tmp_path: Path, config: SpaceConfig
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Heading\n", "utf-8")
    assert read_front_matter(readme) == {}
    write_front_matter(readme, config)
    assert read_front_matter(readme) == front_matter(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colorFrom": "mauve"}, "colorFrom"),
        ({"short_description": "long " * 13}, "short_description"),
        ({"python_version": 3.1}, "python_version"),
        ({"colour": "red"}, "no setting named colour"),
        ({"volumes": [{"source": "runs", "mount_path": "data"}]}, "volumes.0.mount_path"),
        ({"volumes": [{"source": "r", "mount_path": "/data"}] * 2}, "the same mount_path"),
        ({"hardware": "t4-smal"}, "such as t4-small"),
        ({"hardware": "zero-a10g", "python_version": "3.11"}, "runs Python 3.10 and 3.12 only"),
        ({"sleep_time": 60}, "cpu-basic sleeps after 48 hours"),
        ({"hardware": "t4-small", "sleep_time": 0}, "-1 for never"),
        ({"variables": {"A-B": "1"}}, "letters, digits and underscores"),
        ({"variables": {"HF_TOKEN": "1"}}, "HF_TOKEN is a variable, which everybody can read"),
        ({"title": None}, "title"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        SpaceConfig.from_yaml(changed(tmp_path, **values))


def test_command_writes_the_readme_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main() == 2
    assert "spaces_config.yaml" in capsys.readouterr().err

    changed(tmp_path)
    assert main() == 0
    assert read_front_matter("README.md")["sdk"] == "gradio"
