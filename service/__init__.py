"""The product around the model: HTTP interface, jobs, workers, reports, command line."""
