"""Coverage-guided fuzzing of the restricted unpickler, of config texts in checkpoints, and of the archive check.

atheris is no dependency of the tests. It runs in an environment of its own that sees this one's packages::

    python3.11 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris
    python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > /tmp/fuzz/lib/python3.11/site-packages/here.pth
    pwd >> /tmp/fuzz/lib/python3.11/site-packages/here.pth
    /tmp/fuzz/bin/python tests/hostile/fuzz_unpickler.py CORPUS -max_total_time=300 -rss_limit_mb=4096

CORPUS is a folder; it is made and filled with pickles of checkpoints and with hostile ones where it does not exist.
What follows are options of libFuzzer; it ends with a file ``crash-*`` where something was wrong, to be given instead of
CORPUS to repeat it.

Wrong is a value that no checkpoint holds (a function, a class, a module), a changed class, an import, an audited event
such as a file that is opened, and a config text that counts as plain and is not.
"""

from __future__ import annotations

import ast
import codecs
import io
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

if {'-h', '--help'} & set(sys.argv[1:]):
    print(__doc__)
    sys.exit()
try:
    import atheris
except ImportError:
    sys.exit('error: expected atheris, which is not installed here; see --help for an environment that has it')

for read in pickle._Unpickler.dispatch.values():
    atheris.instrument_func(read)
with atheris.instrument_imports(include=['mmlk.compat']):
    from mmlk.compat import config_text, safe_unpickler

#: Everything a checkpoint may consist of.
KINDS = (
    type(None), bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, torch.Tensor, torch.Size,
    torch.dtype, torch.device, np.ndarray, np.generic, HistoryBuffer, ConfigDict, safe_unpickler.argparse.Namespace,
    safe_unpickler._Admitted, torch.storage.TypedStorage, torch.storage.UntypedStorage, np.dtype,
)  # fmt: skip
#: Events that a file must not be able to cause (https://docs.python.org/3/library/audit_events.html).
EVENTS = (
    'open',
    'exec',
    'compile',
    'import',
    'os.',
    'subprocess.',
    'socket.',
    'shutil.',
    'ctypes.',
    'pickle.find_class',
)
#: Values looked at; a few bytes can describe more than there is time for.
MOST = 10_000


class Events:
    """Audited events while a file is read."""

    def __init__(self) -> None:
        self.watching = False
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.watching and event.startswith(EVENTS):
            self.seen.append(f'{event} {arguments!r:.200}')


def load_storage(pid: tuple) -> torch.storage.TypedStorage:
    """What torch's reader answers, with at most 64 elements."""
    return torch.storage.TypedStorage(
        wrap_storage=torch.UntypedStorage(min(pid[4], 64) * 4), dtype=torch.float32, _internal=True
    )


def look(value: object) -> None:
    """Fail where a value is of a kind that no checkpoint holds."""
    pending, count = [value], 0
    while pending and count < MOST:
        value = pending.pop()
        count += 1
        if value is torch.UntypedStorage:
            # The one class that is handed out, for torch to compare with.
            continue
        if not isinstance(value, KINDS):
            raise AssertionError(f'a {type(value)} came out: {value!r:.200}')
        if isinstance(value, dict):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            pending += value
        elif isinstance(value, (HistoryBuffer, safe_unpickler.argparse.Namespace)):
            pending += vars(value).values()


def read_pickle(data: bytes) -> None:
    reader = safe_unpickler.Unpickler(io.BytesIO(data), encoding='utf-8')
    reader.persistent_load = load_storage
    before = dict(vars(HistoryBuffer)), dict(HistoryBuffer._statistics_methods)
    EVENT_LOG.seen.clear()
    EVENT_LOG.watching = True
    try:
        value = reader.load()
    except (MemoryError, RecursionError):
        return
    except Exception:
        # The loader makes one sentence of any of these.
        return
    finally:
        EVENT_LOG.watching = False
        if EVENT_LOG.seen:
            raise AssertionError(f'reading caused {EVENT_LOG.seen}')
        if (dict(vars(HistoryBuffer)), dict(HistoryBuffer._statistics_methods)) != before:
            raise AssertionError('HistoryBuffer was changed')
    look(value)


def read_text(data: bytes) -> None:
    """Names in a plain text are those that are assigned, and constructors that are called."""
    text = data.decode('utf-8', 'replace')
    if not config_text.is_plain(text):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Attribute, ast.Subscript, ast.Lambda, ast.Import, ast.ImportFrom, ast.NamedExpr)):
            raise AssertionError(f'a plain text holds {ast.dump(node):.200}')
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in config_text._CONSTRUCTORS:
            raise AssertionError(f'a plain text uses {node.id}')


def one_input(data: bytes) -> None:
    if data[:1] == b'#':
        read_text(data)
    else:
        read_pickle(data)


def fill(corpus: Path) -> None:
    """Pickles of what checkpoints hold, hostile ones, and config texts."""
    # The tests are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from hostile.checkpoint_values import CONFIG_TEXTS
    from hostile.payloads import PROGRAMS, Runs, as_pickle

    corpus.mkdir(parents=True)
    good = {
        'meta': dict(iter=3, epoch=0, seed=None, time='now', numbers=(1, 2.5, True, b'x', 10**30, {1, 2})),
        'history': HistoryBuffer([1.0], [1]),
        'config': ConfigDict(a=dict(b=[1])),
        'array': np.arange(3.0),
        'scalar': np.float64(3),
        'args': safe_unpickler.argparse.Namespace(lr=1),
        'size': torch.Size((1, 2)),
        'dtype': torch.float16,
    }
    files = {'good': good, **good}
    for name, value in files.items():
        for protocol in (2, 4):
            (corpus / f'{name}-{protocol}').write_bytes(pickle.dumps(value, protocol))
    for name, program in PROGRAMS.items():
        (corpus / f'program {name}').write_bytes(as_pickle(program(Path('canary'))))
    (corpus / 'call').write_bytes(as_pickle(Runs(dict, [])))
    for name, text in CONFIG_TEXTS.items():
        (corpus / f'text {name}').write_text('#\n' + text(Path('folder'), Path('canary')))
    (corpus / 'text plain').write_text(
        "#\ncustom_imports = dict(imports=['mmlk'])\nmodel = dict(a=[1, -2.0], b={'c': None})"
    )


EVENT_LOG = Events()


def main() -> None:
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith('-')]
    if not folders:
        print(__doc__)
    sys.exit()
    if not folders[0].exists():
        fill(folders[0])
    # Imports of the values above happen at their first use: not while a file is watched.
    read_pickle(pickle.dumps([HistoryBuffer(), ConfigDict(), np.ones(1)], 2))
    for codec in ('raw-unicode-escape', 'unicode-escape', 'latin1', 'ascii', 'utf-8'):
        codecs.lookup(codec)
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == '__main__':
    main()
