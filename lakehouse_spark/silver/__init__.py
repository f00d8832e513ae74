"""Cleaned, typed and deduplicated events; what cannot be accepted goes to the dead-letter table."""
