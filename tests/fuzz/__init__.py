"""Mutated studies, posted to the real API: ``python -m tests.fuzz``, or ``make fuzz``."""
