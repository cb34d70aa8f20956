"""Run a tool of tools/ in this process, as from the command line."""

import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from mmengine.utils import ManagerMixin

TOOLS = Path(__file__).resolve().parents[1] / 'tools'

#: Command line that shrinks UperNet with PeLK-T to the smallest that runs every code path, and validates on 8 images.
TINY = [
    'model.backbone.depths=(1,1,1,1)',
    'model.backbone.width_factor=0.0834',
    'model.backbone.kernel_size=(9,9,7,7)',
    'model.decode_head.in_channels=[8,16,32,64]',
    'model.decode_head.channels=8',
    'model.auxiliary_head.in_channels=32',
    'model.auxiliary_head.channels=8',
    'val_dataloader.dataset.indices=8',
    'test_dataloader.dataset.indices=8',
]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one sentence of a failed command; asserts that there is exactly one line with it and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith('error: ')]
        assert len(lines) == 1, self.err
        assert 'Traceback' not in self.err
        assert self.code == 2
        return lines[0].removeprefix('error: ')


def run_tool(name: str, *arguments: str) -> Result:
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    _forget_singletons()
    sys.argv = [name, *map(str, arguments)]
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            runpy.run_path(str(TOOLS / name), run_name='__main__')
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = argv
    return Result(code, out.getvalue(), err.getvalue())


def _forget_singletons() -> None:
    """A second run in one process would log into the first one's directory: MMEngine keeps these by name."""
    pending = [ManagerMixin]
    while pending:
        cls = pending.pop()
        cls._instance_dict.clear()
        pending += cls.__subclasses__()
