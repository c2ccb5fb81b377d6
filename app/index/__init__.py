"""Vector indexes: what is derived from the anchors and can always be rebuilt from them."""
