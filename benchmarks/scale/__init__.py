"""A day of an exchange on paper: what each step takes, by what was measured. `python -m benchmarks.scale` prints it."""
