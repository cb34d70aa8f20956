"""Measuring speed: what ``tools/benchmark_ops.py`` (torch alone) and ``tools/benchmark_model.py`` run."""
