"""The work on a job: prepare, predict, publish. The same functions serve the worker and `diffdp predict`."""
