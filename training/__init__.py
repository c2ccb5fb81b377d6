"""Offline work on encoders: from weights and labelled pairs to an encoder artifact.

Imports `app.domain` and `app.encoders`; the service never imports this package.
"""
