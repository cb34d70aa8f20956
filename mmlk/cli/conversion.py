"""The report of ``tools/convert_checkpoint.py``."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from mmlk.checkpoints.convert import Conversion, describe
from mmlk.checkpoints.fit import some


def conversion_rows(conversion: Conversion, target: Path) -> list[tuple[str, str]]:
    """What became of every tensor, as (what, value) rows."""
    values = sum(conversion.weights[key].numel() for key in conversion.matched.values())
    rows = [
        ('family', conversion.family),
        ('network', describe(conversion.network)),
        ('matched', f'{len(conversion.matched)} tensors, {values / 1e6:.2f} M values'),
    ]
    if conversion.kept:
        heads = Counter(key.partition('.')[0] for key in conversion.kept)
        rows.append(('kept as they are', ', '.join(f'{count} of {head}' for head, count in heads.items())))
    rows += _by_reason('dropped', conversion.dropped)
    rows += _by_reason('missing', conversion.missing)
    return [*rows, ('written to', str(target))]


def _by_reason(name: str, reasons: dict[str, str]) -> list[tuple[str, str]]:
    keys = defaultdict(list)
    for key, reason in reasons.items():
        keys[reason].append(key)
    rows = [(name, f'{len(group)}: {reason} ({some(group)})') for reason, group in keys.items()]
    return rows or [(name, 'none')]
