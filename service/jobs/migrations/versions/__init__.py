"""One step each, in the order that their names give."""
