"""Results of ``tools/test.py`` in work directories."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmlk.errors import UsageError

#: Metric as the evaluator calls it -> name in the tables, factor to percent.
METRICS = {
    'mIoU': ('mIoU', 1),
    'coco/bbox_mAP': ('box AP', 100),
    'coco/segm_mAP': ('mask AP', 100),
    'accuracy/top1': ('top-1', 1),
}
#: Tables print this beside the figure of a single scale.
MULTI_SCALE = {'mIoU': 'mIoU (ms)'}


@dataclass(frozen=True)
class Measured:
    """Result of the newest test of a config.

    Attributes:
        metrics: Name as in the tables -> percent.
        runs: Name -> folder of the test that gave it.
        checkpoints: Name -> file name of the weights that were tested.
    """

    metrics: Mapping[str, float]
    runs: Mapping[str, str]
    checkpoints: Mapping[str, str]


def find_measured(folders: Iterable[Path], configs: Mapping[str, Path]) -> tuple[dict[str, Measured], list[str]]:
    """Read the results that MMEngine keeps of every test, ``WORK_DIR/<time>/<time>.json``.

    A test counts for a config if it was one of that config's network and schedule: a demo or a shrunk network does not.

    Args:
        folders: Work directories, or folders of work directories.
        configs: Name of a config -> its file; names differ in their last part.

    Returns:
        Name of a config -> its results, and one sentence for every test that does not count.

    Raises:
        UsageError: A folder does not exist.
    """
    stems = {Path(name).name: name for name in configs}
    found: dict[str, Measured] = {}
    ignored = []
    for result in _results(folders):
        name = _config_of(result, stems)
        if name is None:
            ignored.append(f'{result}: of no config of the tables')
            continue
        run = Config.fromfile(result.parent / 'vis_data' / 'config.py')
        difference = _difference(run, Config.fromfile(configs[name]))
        if difference:
            ignored.append(f'{result}: {difference} differs from {configs[name].name}')
            continue
        metrics = _metrics(json.loads(result.read_text()), tta='module' in run.model)
        older = found.get(name, Measured({}, {}, {}))
        checkpoint = Path(run.load_from).name if run.get('load_from') else ''
        # In the order of time: the newer replaces the older, per metric.
        found[name] = Measured(
            {**older.metrics, **metrics},
            {**older.runs, **dict.fromkeys(metrics, str(result.parent))},
            {**older.checkpoints, **dict.fromkeys(metrics, checkpoint)},
        )
    return found, ignored


def _results(folders: Iterable[Path]) -> Iterator[Path]:
    """Results of tests, by time."""
    results = set()
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f'--measured must name work directories, found no folder {folder}')
        for pattern in ('*/*.json', '*/*/*.json'):
            results |= {path.resolve() for path in folder.glob(pattern) if _is_result(path)}
    yield from sorted(results, key=lambda path: path.stem)


def _is_result(path: Path) -> bool:
    is_named = path.stem == path.parent.name and re.fullmatch(r'\d{8}_\d{6}', path.stem) is not None
    return is_named and (path.parent / 'vis_data' / 'config.py').is_file()


def _config_of(result: Path, stems: Mapping[str, str]) -> str | None:
    """MMEngine writes the config under its own name into the work directory, whatever that is called."""
    work_dir = result.parents[1]
    candidates = [work_dir.name, *(path.stem for path in work_dir.glob('*.py'))]
    named = {stems[stem] for stem in candidates if stem in stems}
    return named.pop() if len(named) == 1 else None


def _difference(run: Config, config: Config) -> str | None:
    """In what a run is another one than its config says."""
    tested, published = run.model.get('module', run.model), config.model
    without = ('init_cfg',)
    if _without(tested.backbone, without) != _without(published.backbone, without):
        return 'model.backbone'
    # A demo shortens it.
    if run.get('train_cfg') != config.get('train_cfg'):
        return 'train_cfg'
    # Data may lie anywhere, but it has to be all of it.
    if run.test_dataloader.dataset.get('indices') != config.test_dataloader.dataset.get('indices'):
        return 'test_dataloader.dataset.indices'
    return None


def _without(values: Mapping, names: tuple[str, ...]) -> dict:
    return {key: value for key, value in values.items() if key not in names}


def _metrics(values: Mapping[str, float], tta: bool) -> dict[str, float]:
    metrics = {}
    for key, (name, factor) in METRICS.items():
        if key in values:
            metrics[MULTI_SCALE.get(name, name) if tta else name] = factor * values[key]
    return metrics
