"""Run a tool of tools/ in this process, as from the command line."""

import io
import json
import runpy
import sys
import time
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

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


class _Clock:
    """Stands for :mod:`time` where MMEngine names a run's folder by the second: no two runs begin in the same one."""

    strftime, localtime = time.strftime, time.localtime
    last = 0.0

    @classmethod
    def time(cls) -> float:
        cls.last = max(time.time(), cls.last + 1)
        return cls.last


#: What takes half of the time of a short run: describing config and machine in the log, and collecting the garbage of
#: the whole test session for every data set that is built. The README's runs do all of it.
_STAND_INS = {
    'mmengine.config.config.FormatCode': lambda code, **style: (code, False),
    'mmengine.runner.runner.collect_env': dict,
    'mmengine.dataset.base_dataset.gc': SimpleNamespace(collect=int),
    'mmengine.runner.runner.time': _Clock,
}


def run_tool(name: str, *arguments: str) -> Result:
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    forget_singletons()
    sys.argv = [name, *map(str, arguments)]
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err), ExitStack() as stack:
            for place, stand_in in _STAND_INS.items():
                # Where the other family of packages formats configs otherwise, there is no such name.
                stack.enter_context(patch(place, stand_in, create=True))
            runpy.run_path(str(TOOLS / name), run_name='__main__')
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = argv
    return Result(code, out.getvalue(), err.getvalue())


def scalars(work_dir: Path) -> list[list[dict]]:
    """What was logged in every run of a work directory, oldest first."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]


def forget_singletons() -> None:
    """A second run in one process would log into the first one's directory: MMEngine keeps these by name."""
    pending = [ManagerMixin]
    while pending:
        cls = pending.pop()
        cls._instance_dict.clear()
        pending += cls.__subclasses__()
