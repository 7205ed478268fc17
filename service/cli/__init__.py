"""The command line, `diffdp`."""
