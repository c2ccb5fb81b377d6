"""The page of a training run: its parts, plots and words, from what the run left behind."""
