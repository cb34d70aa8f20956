"""The tables of docs/robustness.md, made from the committed results; run to write them again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / 'results'
PAGE = ROOT / 'docs' / 'robustness.md'

GOOD = ('worked', 'one sentence')


def table(content: dict) -> str:
    """Kinds of input and what came of them, as Markdown."""
    others = [name for name in content['total'] if name not in GOOD]
    lines = [
        f'{content["cases"]} cases, seed {content["seed"]}, {content["date"][:10]}:',
        '',
        '| input | worked | one sentence | anything else |',
        '|---|---|---|---|',
    ]
    rows = [*content['kinds'].items(), ('**all**', content['total'])]
    for kind, counts in rows:
        numbers = [counts.get(name, 0) for name in GOOD]
        rest = sum(counts.get(name, 0) for name in others)
        lines.append(f'| {kind} | {numbers[0]} | {numbers[1]} | {rest} |')
    return '\n'.join(lines)


def filled(text: str) -> str:
    """A page with the tables between its marks as they have to be."""

    def fill(match: re.Match) -> str:
        path = RESULTS / f'{match[2]}.json'
        return f'{match[1]}\n{table(json.loads(path.read_text()))}\n{match[3]}' if path.is_file() else match[0]

    return re.sub(r'(<!-- campaign: (\w+) -->).*?(<!-- end -->)', fill, text, flags=re.S)


def campaigns(text: str) -> list[str]:
    """Names of the campaigns that a page shows."""
    return re.findall(r'<!-- campaign: (\w+) -->', text)


if __name__ == '__main__':
    from os import fspath

    sys.path.insert(0, fspath(ROOT))
    from mmlk.files import write_whole

    write_whole(PAGE, filled(PAGE.read_text()))
