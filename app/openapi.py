"""The OpenAPI document, as it is committed: `python -m app.openapi docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from app.main import create_app
from app.settings import Settings


def schema_text() -> str:
    """Return the document as JSON text; it depends on no setting."""
    return json.dumps(create_app(Settings()).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
