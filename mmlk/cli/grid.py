"""A table of text: for a terminal, and as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

#: Where the width is unknown, in a log or a pipe: wide enough to break no cell.
PIPE_WIDTH = 260


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: Heading.
        columns: Headings of the columns; in a terminal ', ' breaks the line.
        rows: Cells.
        notes: Paragraphs below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def print(self) -> None:
        table = Table(title=self.title, title_justify='left')
        for column in self.columns:
            table.add_column(column.replace(', ', '\n'), overflow='fold')
        for row in self.rows:
            table.add_row(*row)
        console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)
        console.print(table, *self.notes, sep='\n')

    def markdown(self) -> str:
        lines = [self.columns, ['---'] * len(self.columns), *self.rows]
        table = '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
        return '\n\n'.join([f'## {self.title}', table, *self.notes]) + '\n'
