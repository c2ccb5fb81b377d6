from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from app.domain.errors import SettingsError
from app.settings import CLIENT_VARIABLES, PREFIX, Settings, is_loopback, load_settings
from app.settings import unknown_variables as unknown

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def documented() -> dict[str, tuple[str, str]]:
    """Return default and meaning of each variable in the table of the documentation."""
    rows = re.findall(
        r"^\| `(DEJA_\w+)` \| (.*?) \| (.*?) \|$", OPERATIONS.read_text(), re.MULTILINE
    )
    assert len(rows) == len({name for name, _, _ in rows})
    return {name: (default, meaning) for name, default, meaning in rows}


def test_the_table_of_settings_is_the_code() -> None:
    """Every setting stands in it with its default and its meaning, and nothing else does."""
    expected = {}
    for name, field in Settings.model_fields.items():
        unset = field.default is None or field.default is PydanticUndefined
        default = "unset" if unset else f"`{str(field.default).lower()}`"
        expected[PREFIX + name.upper()] = (default, field.description)
    service = {k: v for k, v in documented().items() if k not in CLIENT_VARIABLES}
    assert service == expected
    assert set(documented()) >= CLIENT_VARIABLES


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.168.1.5", False),
        ("example.org", False),
    ],
)
def test_loopback_is_what_no_other_machine_can_reach(host: str, expected: bool) -> None:
    """A name other than localhost may resolve to anything."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DEJA_HOST": "0.0.0.0"}, "set DEJA_ADMIN_KEY or DEJA_ADMIN_KEY_FILE"),  # noqa: S104
        ({"DEJA_AUTH": "off", "DEJA_ADMIN_KEY": "k"}, "contradict each other"),
        ({"DEJA_ADMIN_KEY_FILE": "f", "DEJA_ADMIN_KEY": "k"}, "not both"),
        ({"DEJA_PORT": "x", "DEJA_THREADS": "y"}, "DEJA_THREADS=y: "),
        ({"DEJA_AUTH": "no"}, "DEJA_AUTH=no: input should be 'auto', 'on' or 'off'"),
    ],
)
def test_contradictions_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    """Every wrong setting is named at once."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `${DEJA_ADMIN_KEY:-}` in a compose file gives."""
    monkeypatch.setenv("DEJA_ADMIN_KEY", "")
    monkeypatch.setenv("DEJA_PORT", "")
    settings = load_settings()
    assert settings.key() is None
    assert settings.port == 8000


def test_the_key_is_never_shown() -> None:
    """Neither in the representation of the settings nor by printing them."""
    assert "s3cret" not in repr(Settings(admin_key="s3cret"))


def test_a_key_file_must_hold_a_key(tmp_path: Path) -> None:
    """An empty file would be a key that everyone has."""
    path = tmp_path / "key"
    path.write_text(" \n")
    with pytest.raises(SettingsError, match="empty"):
        Settings(admin_key_file=path).key()
    path.write_text(" k1 \n")
    assert Settings(admin_key_file=path).key() == "k1"


@pytest.mark.parametrize("key", ["schlüssel", "two words", "tab\tinside"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    """Or the service would start and refuse everyone."""
    with pytest.raises(SettingsError, match="printable ASCII"):
        Settings(admin_key=key).key()
    assert Settings(admin_key=" k ").key() == "k"


def test_misspelt_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the command line client are known."""
    monkeypatch.setenv("DEJA_PROT", "1")
    monkeypatch.setenv("DEJA_URL", "http://localhost")
    assert unknown() == ["DEJA_PROT"]
