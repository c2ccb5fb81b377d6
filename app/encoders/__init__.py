"""Encoder adapters: from texts to unit vectors, out of an encoder artifact."""
