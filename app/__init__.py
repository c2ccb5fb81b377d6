"""Deja: has this been asked before?"""

__version__ = "0.1.0"

# The encoder that serves unless another is named.
DEFAULT_ENCODER = "deja-en-1"
