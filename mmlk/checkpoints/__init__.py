"""Reading checkpoints and making sure that they fit."""
