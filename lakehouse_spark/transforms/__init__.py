"""Pure, shared steps: DataFrames and plain values in, one DataFrame or column out."""
