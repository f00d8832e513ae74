"""The jobs: each module's `run` does one job's work in a given session and returns what it did."""
