"""Table and picture of a segmentation run on demo data."""

from __future__ import annotations

import json
from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model, init_model
from mmseg.registry import DATASETS

from mmlk.analysis.segmentation_figure import draw_segmentation
from mmlk.cli.summary import RunSummary, summary_rows
from mmlk.datasets.demo.colour_baseline import colour_baseline
from mmlk.errors import UsageError

#: Rows that replace the evaluator's names: mmseg averages over every class that is predicted or present, which on data
#: with a handful of the 150 classes counts each stray pixel's class as an IoU of 0.
NAMES = {
    'mIoU': 'mIoU (%), classes predicted or present',
    'present/mIoU': 'mIoU (%), classes present',
    'far/mIoU': 'mIoU (%), far pair',
    'aAcc': 'pixel accuracy (%)',
}


def load_run_config(work_dir: Path) -> Config:
    """The config that MMEngine wrote beside the checkpoints of a run.

    Raises:
        UsageError: There is none.
    """
    dumped = sorted(work_dir.glob('*.py'))
    if not dumped:
        raise UsageError(f'expected the config of a run in {work_dir}, found no *.py; give the work directory of a run')
    return Config.fromfile(dumped[0])


def draw_predictions(cfg: Config, checkpoint: Path, count: int, path: Path) -> None:
    """Draw input, label and prediction of ``count`` validation images into ``path`` (PNG)."""
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    model = init_model(cfg, str(checkpoint), device='cpu')
    images, labels, predictions = [], [], []
    for index in range(min(count, len(dataset))):
        info = dataset.get_data_info(index)
        image = mmcv.imread(info['img_path'])
        prediction = inference_model(model, image).pred_sem_seg.data[0].numpy()
        label = mmcv.imread(info['seg_map_path'], flag='unchanged').astype(np.int64)
        images.append(mmcv.bgr2rgb(image))
        # Stored with 0 = ignored; the network's classes start at 0.
        labels.append(label - 1 if info['reduce_zero_label'] else label)
        predictions.append(prediction)
    draw_segmentation(images, labels, predictions, dataset.metainfo['classes'], dataset.metainfo['palette'], path)


def report_rows(cfg: Config, summary: RunSummary, work_dir: Path, picture: Path) -> list[tuple[str, str]]:
    """Rows of the table: the run's summary, mIoU for comparison, the picture, and what else the quickstart has made.

    Compared are the fused network, where it was tested, and a classifier that knows a pixel's colour only.
    """
    rows = [(NAMES.get(name, name), value) for name, value in summary_rows(summary) if name != 'mAcc']
    metrics = max((i for i, (name, _) in enumerate(rows) if 'mIoU' in name), default=0) + 1
    fused = work_dir / 'fused'
    others = []
    if (fused / 'metrics.json').is_file():
        values = json.loads((fused / 'metrics.json').read_text())
        names = [name for name in summary.metrics if 'mIoU' in name and name in values]
        others += [(f'{NAMES.get(name, name)}, fused', f'{values[name]:.2f}') for name in names]
    baseline = 100 * colour_baseline(cfg.val_dataloader.dataset.data_root)
    rows[metrics:metrics] = [*others, ('mIoU (%), colour of a pixel alone', f'{baseline:.2f}')]
    rows.append(('predictions', str(picture)))
    made = {'fused checkpoint': 'fused/*.pth', 'deploy config': 'fused/*.py', 'effective receptive field': 'erf/*.png'}
    return rows + [(name, str(path)) for name, pattern in made.items() for path in sorted(work_dir.glob(pattern))]
