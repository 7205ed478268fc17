"""Celery: its application, the life cycle of a stage under a lease, the reaper, and the worker as a process."""
