"""Raw events as Kafka delivered them: append-only, nothing rejected."""
