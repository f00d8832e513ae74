"""Cleaned, typed and deduplicated events; a record that is rejected becomes a dead letter."""
