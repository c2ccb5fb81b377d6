"""What a model card says of the terms of the data that head and probabilities were fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.card_cells import cell
from training.reporting.run_folder import mapping

if TYPE_CHECKING:
    from app.encoders.artifact import Manifest

_NOT_RECORDED = "not recorded; ask whoever gave the data before passing this on"


def terms_section(manifest: Manifest) -> str:
    """Return the section, in Markdown, a blank line first; nothing for what `refit` did not fit.

    The terms stand in `made` of the manifest, under `head` and `calibrated_on`; those that the
    encoder was trained under are told where the card tells of its training.
    """
    head = mapping(manifest.made.get("head"))
    fitted = mapping(manifest.made.get("calibrated_on"))
    if not (head or fitted.get("terms") or manifest.metrics.get("held_out")):
        return ""
    rows = {"probabilities (`calibration.json`)": fitted, **({"`head.onnx`": head} if head else {})}
    lines = [
        f"| {what} | {cell(data.get('terms') or _NOT_RECORDED)} |" for what, data in rows.items()
    ]
    return f"""
## Terms of what was fitted

| fitted | terms of its data |
|---|---|
{chr(10).join(lines)}

Terms of data may bind whoever uses or passes on what was learned from it. They come beside those
of the encoder itself, above. To be free of them, fit on pairs of your own:

```sh
python -m training.refit {manifest.name} --pairs MY-PAIRS.csv --no-head --output my-{manifest.name}
```

That leaves the head out; `--train MORE-OF-MY-PAIRS.csv` in place of `--no-head` trains one of your
own. Nine numbers stay whatever the pairs, the prior of the evidence, which came from Quora's.

{_ENCODER_TOO if manifest.made.get("training") else _ENCODER}
"""


_ENCODER = "The encoder stays as it is, under its own licence."
_ENCODER_TOO = """\
The encoder was itself trained on data with terms, which stay: to be free of those as well, train
one from its base with `deja-train`, as said below; what comes out is fitted on your pairs, and has
no head."""
