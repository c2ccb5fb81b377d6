"""How Deja's cost grows with its anchors: the parts of `benchmarks.scale`."""
