"""Business-ready tables: the two fact tables and five aggregates, recomputed for the days and keys that changed."""
