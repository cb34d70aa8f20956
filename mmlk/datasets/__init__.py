"""Data sets and what measures them. Importing this package registers the parts that configs name."""

from importlib.util import find_spec

# mmseg is one of three hosts and may be absent; the generators below `demo` do not need it.
if find_spec('mmseg') is not None:
    from mmlk.datasets.demo import metrics  # noqa: F401
