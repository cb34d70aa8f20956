"""What ``tools/reparam.py`` does: the model, its inputs, the report, the files that are written."""
