"""How good a checkpoint is: scores over many patients."""
