"""From a checkpoint and a case to a dose volume."""
