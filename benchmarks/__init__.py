"""Side-by-side measurements, one command each; README.md says what they measure."""
