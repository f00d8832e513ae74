"""What keeps a lakehouse in order: what there is to do and why, and how it is done."""
