"""What touches Iceberg: sessions, commits, cursors, and the shared steps of everything that is written."""
