"""How the job database comes from one version of its schema to the next."""
