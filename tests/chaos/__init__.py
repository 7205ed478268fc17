"""A whole service whose parts are killed again and again: ``python -m tests.chaos``, or ``make chaos``."""
