"""Where studies and results are kept, outside the database."""
