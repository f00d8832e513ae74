"""Dimensions, functions of the change log in `bronze.raw_reference`, and their surrogate keys."""
