"""What reads from outside: Kafka topics and reference files."""
