"""Settings, each from an environment variable `DEJA_…`; docs/operations.md has the table."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app import DEFAULT_ENCODER
from app.domain.errors import SettingsError

PREFIX = "DEJA_"


def _cores() -> int:
    """Return how many cores this process may use; a container's share, where the system says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Everything about a running service that its owner may choose."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(
        Path("data"), description="Folder of the database and the index; one process a folder."
    )
    encoder: str = Field(
        DEFAULT_ENCODER,
        description="Encoder artifact: a name (shipped, or in `DEJA_ENCODERS_DIR`) or a path.",
    )
    encoders_dir: Path | None = Field(
        None, description="Folder of further artifacts; `encoders` in the data folder if unset."
    )
    threads: int = Field(
        default_factory=_cores,
        ge=1,
        le=256,
        description="Threads that encode and search, each on one core; all cores if unset. As many "
        "more, of low priority, do bulk work.",
    )
    queue_size: int = Field(
        4096, ge=1, description="Texts that may wait to be encoded; beyond it, 503."
    )
    cache_size: int = Field(
        4096, ge=0, description="Vectors of recent questions kept in memory; 0 keeps none."
    )
    max_body_mib: int = Field(16, ge=1, le=1024, description="Largest request body, in MiB; 413.")
    admin_key: SecretStr | None = Field(
        None, description="Key that every request must carry as `Authorization: Bearer KEY`."
    )
    admin_key_file: Path | None = Field(
        None, description="File that holds the key, in place of `DEJA_ADMIN_KEY`."
    )
    auth: Literal["auto", "on", "off"] = Field(
        "auto",
        description="`auto`: a key is needed off loopback; `on`: always; `off`: never, by name.",
    )
    access_log: bool = Field(False, description="Log a line for every request.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log lines to print."
    )

    @model_validator(mode="after")
    def _closed_by_default(self) -> Self:
        if self.admin_key and self.admin_key_file:
            raise ValueError("set DEJA_ADMIN_KEY or DEJA_ADMIN_KEY_FILE, not both")
        has_key = bool(self.admin_key or self.admin_key_file)
        if self.auth == "off" and has_key:
            raise ValueError("DEJA_AUTH=off and an admin key contradict each other; drop one")
        if self.auth == "on" and not has_key:
            raise ValueError("DEJA_AUTH=on needs DEJA_ADMIN_KEY or DEJA_ADMIN_KEY_FILE")
        if self.auth == "auto" and not has_key and not is_loopback(self.host):
            raise ValueError(
                f"DEJA_HOST={self.host} can be reached from other machines: set DEJA_ADMIN_KEY or "
                "DEJA_ADMIN_KEY_FILE, or say DEJA_AUTH=off to serve without a key"
            )
        return self

    def key(self) -> str | None:
        """Return the admin key, None where requests need none.

        Raises SettingsError where the key file cannot be read or is empty.
        """
        if self.admin_key:
            return _usable(self.admin_key.get_secret_value().strip(), "DEJA_ADMIN_KEY")
        if self.admin_key_file is None:
            return None
        try:
            key = self.admin_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"DEJA_ADMIN_KEY_FILE={self.admin_key_file}: cannot be read ({error})"
            ) from error
        if not key:
            raise SettingsError(f"DEJA_ADMIN_KEY_FILE={self.admin_key_file}: the file is empty")
        return _usable(key, f"DEJA_ADMIN_KEY_FILE={self.admin_key_file}")


def _usable(key: str, where: str) -> str:
    """Return a key that can travel in a header. Raises SettingsError for another."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(f"{where}: a key is printable ASCII without spaces")
    return key


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings() -> Settings:
    """Return the settings of the environment. Raises SettingsError, one line a wrong one."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("; ".join(_words(problem) for problem in error.errors())) from error


def unknown_variables() -> list[str]:
    """Return the `DEJA_` variables of the environment that are no setting: perhaps misspelt."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | CLIENT_VARIABLES
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


# Read by the command line client, not by the service.
CLIENT_VARIABLES = frozenset({"DEJA_URL", "DEJA_KEY"})


def _words(problem: object) -> str:
    assert isinstance(problem, dict)
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = PREFIX + str(problem["loc"][0]).upper()
    return f"{name}={problem['input']}: {message[0].lower()}{message[1:]}"
