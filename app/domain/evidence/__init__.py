"""Evidence of a pair of texts that embeddings are known to miss."""
