"""Deja: has this been asked before?"""

__version__ = "0.1.0"
