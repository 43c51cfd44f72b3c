"""The settings of a server: what they are without a word, what is refused, what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from qa_lora.admission import CEILINGS, check_answers, rows_to_score
from qa_lora.admission import admit as admit_training
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError, DataError, ModelError, QALoRAError
from qa_lora.owners import disk_bytes, owner_of, owner_word, write_owner
from qa_lora.serving import PUBLIC_DEFAULTS, ServerSettings, is_loopback, variable

ROOT = Path(__file__).parents[1]
LAPTOP, ANYWHERE = "127.0.0.1", "0.0.0.0"


def settings(address: str = ANYWHERE, **environment: str) -> ServerSettings:
    return ServerSettings.from_environment(environment, address)


@pytest.fixture
def admit(tmp_path: Path) -> Any:
    """What a public server makes of a training."""

    def admitted(serving: ServerSettings | None = None, **values: Any) -> TrainConfig:
        public = serving or settings()
        return admit_training(
            public,
            TrainConfig.build(**values),
            tmp_path / "mine",
            tmp_path / "runs",
            "my-run".__eq__,
        )

    return admitted


def test_a_laptop_has_no_limits_and_whatever_others_reach_has_all() -> None:
    assert settings(LAPTOP) == ServerSettings()
    for public in (settings(), settings(LAPTOP, SPACE_ID="me/space"), settings("192.0.2.1")):
        assert public.public and public.visibility == "own"
        assert {name: getattr(public, name) for name in PUBLIC_DEFAULTS} == PUBLIC_DEFAULTS
    assert not settings(QA_LORA_PUBLIC="0").public
    assert settings(QA_LORA_PUBLIC="no").max_steps == 0
    assert settings(QA_LORA_MAX_STEPS="0").max_steps == 0
    assert settings(QA_LORA_MODELS="*").models == ()
    assert settings(QA_LORA_MODELS="pocket, a/b").models == ("pocket", "a/b")


@pytest.mark.parametrize(
    ("address", "is_own"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_which_addresses_are_this_machines_own(address: str, is_own: bool) -> None:
    assert is_loopback(address) == is_own


@pytest.mark.parametrize(
    ("name", "value"),
    [("QA_LORA_PUBLIC", "maybe"), ("QA_LORA_MAX_STEPS", "-1"), ("QA_LORA_MAX_ROWS", "many"),
     ("QA_LORA_VISIBILITY", "some"), ("QA_LORA_LOGIN", "pw"), ("QA_LORA_READ_ONLY", "2")],
)  # fmt: skip
def test_a_wrong_variable_is_named_in_one_sentence(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: .*{re.escape(value)}.*\\.$"):
        settings(**{name: value})


@pytest.mark.parametrize(
    "auth", ["hush", "ann:", ":hush", "ann:hush,ann:hush2", "a b:hush", "ann:hush,"]
)
def test_a_wrong_password_list_is_not_quoted(auth: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(QA_LORA_LOGIN="password", QA_LORA_AUTH=auth)
    assert "QA_LORA_AUTH" in str(caught.value) and "hush" not in str(caught.value)


def test_passwords_are_never_shown() -> None:
    serving = settings(QA_LORA_LOGIN="password", QA_LORA_AUTH="ann:hush:1, ben:hush2")
    assert serving.accounts() == {"ann": "hush:1", "ben": "hush2"}
    assert "hush" not in repr(serving) + str(serving.model_dump()) + serving.model_dump_json()
    for wrong in ({"QA_LORA_LOGIN": "password"}, {"QA_LORA_AUTH": "ann:hush"},
                  {"QA_LORA_LOGIN": "huggingface"}):  # fmt: skip
        with pytest.raises(ConfigError, match="QA_LORA_LOGIN"):
            settings(**wrong)


def test_password_check_knows_names_and_passwords() -> None:
    pytest.importorskip("gradio")
    from qa_lora.ui.visitors import password_check

    check = password_check(settings(QA_LORA_LOGIN="password", QA_LORA_AUTH="ann:hush,ben:häsh"))
    assert check("ann", "hush") and check("ben", "häsh")
    for user, password in (("ann", "häsh"), ("ann", ""), ("", ""), ("eve", ""), ("ben", "\udcff")):
        assert not check(user, password)


@pytest.mark.parametrize("space", ["me/space", "me/my.space_1"])
def test_a_space_can_be_duplicated(space: str) -> None:
    url = f"https://huggingface.co/spaces/{space}?duplicate=true"
    assert settings(SPACE_ID=space).duplicate_url == url


@pytest.mark.parametrize("space", ["", "me", "me/<b>", 'me/"x', "a/b/c", "../me", "me/space\n"])
def test_what_is_no_space_is_not_linked_to(space: str) -> None:
    assert settings(SPACE_ID=space).duplicate_url == ""
    assert settings(LAPTOP, SPACE_ID=space).public == bool(space)


def test_what_is_empty_becomes_the_limit(admit: Any) -> None:
    config = admit()
    assert (config.max_steps, config.max_rows, config.max_minutes) == (2_000, 20_000, 30)
    config = admit(max_steps=5, max_rows=6, max_minutes=1.5)
    assert (config.max_steps, config.max_rows, config.max_minutes) == (5, 6, 1.5)
    assert not config.streaming and admit(data="owner/name").streaming
    assert admit(ServerSettings(), max_steps=10**6).max_rows is None


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("max_steps", 2_001, "at most 2,000 steps"), ("max_rows", 20_001, "at most 20,000 rows"),
     ("max_minutes", 31, "at most 30 minutes"),
     *((name, most + 1, f"at most {most:,}") for name, most in CEILINGS.items())],
)  # fmt: skip
def test_more_than_the_server_gives_is_refused(
    admit: Any, setting: str, value: int, said: str
) -> None:
    if setting == "probe_rows":
        value = 17
    with pytest.raises(ConfigError, match=said):
        admit(**{setting: value})
    with pytest.raises(ConfigError, match="duplicate the Space"):
        admit(settings(SPACE_ID="me/space"), **{setting: value})


def test_models_are_those_of_the_list(admit: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="pocket and google/flan-t5-small only, not google/flan-t5-xl"
    ):
        admit(model="google/flan-t5-xl")
    every = settings(QA_LORA_MODELS="*")
    assert admit(every, model="google/flan-t5-xl").model == "google/flan-t5-xl"
    for path in (str(tmp_path), "./pocket", "/etc"):
        with pytest.raises(DataError, match="is a path on this server"):
            admit(every, model=path)


def test_data_is_bundled_uploaded_or_on_the_hub(admit: Any, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine" / "a.csv", tmp_path / "other" / "b.csv"
    for path in (mine, other):
        path.parent.mkdir()
        path.write_text("question,answer\n")
    link = mine.parent / "link.csv"
    link.symlink_to(other)
    assert admit(data=f"{mine} weight=2\nowner/name\natlas", validation_data=str(mine)).data
    bad = [other, mine.parent, tmp_path, link, "/etc/passwd", "/no/such/file.csv", "~/x.csv",
           f"{mine.parent}/../other/b.csv", "../b.csv"]  # fmt: skip
    for path in bad:
        for setting in ("data", "validation_data", "test_data"):
            with pytest.raises(DataError, match="is a path on this server"):
                admit(**{setting: str(path)})
    with pytest.raises(DataError, match="single file of the Hub"):
        admit(data="hf://datasets/a/b/huge.parquet")


def test_a_training_goes_on_from_what_the_visitor_may_see(admit: Any, tmp_path: Path) -> None:
    (tmp_path / "runs" / "their-run" / "adapter").mkdir(parents=True)
    for name in ("my-run", "owner/adapter"):
        assert admit(init_adapter=name).init_adapter == name
    for name in ("their-run", "their-run/adapter", "../x", "/etc", str(tmp_path), "no-run"):
        with pytest.raises(QALoRAError, match="There is no run"):
            admit(init_adapter=name)


def test_answers_and_evaluations_have_their_most() -> None:
    check_answers(settings(), 512, 8)
    check_answers(ServerSettings(), 8192, 64)
    for tokens, beams in ((513, 1), (1, 9)):
        with pytest.raises(ConfigError, match="at most"):
            check_answers(settings(), tokens, beams)
    assert rows_to_score(settings(), None) == rows_to_score(settings(), 500) == 500
    assert rows_to_score(ServerSettings(), None) is None
    with pytest.raises(ConfigError, match="at most 500 questions"):
        rows_to_score(settings(), 501)


def test_an_owner_is_a_hash_that_survives_and_a_damaged_one_is_nobody(tmp_path: Path) -> None:
    assert owner_of(tmp_path) is None
    write_owner(tmp_path, owner_word("secret"))
    assert owner_of(tmp_path) == owner_word("secret") != owner_word("other")
    assert "secret" not in (tmp_path / "owner.json").read_text()
    size = disk_bytes(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "file").write_bytes(b"12345")
    assert disk_bytes(tmp_path) == size + 5 and disk_bytes(tmp_path / "none") == 0
    for text in ("", "{}", "[]", '{"owner": ""}', '{"owner": 1}', "\x00"):
        (tmp_path / "owner.json").write_text(text)
        assert owner_of(tmp_path) not in (None, "", owner_word("secret"))


def test_the_page_in_the_docs_names_every_variable() -> None:
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    for name in ServerSettings.model_fields:
        assert name in ("space_id", "sign_in") or f"`{variable(name)}`" in page
