"""Control tables: one module each."""
