"""HTTP, version 1. Never loads torch."""
