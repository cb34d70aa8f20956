"""One config on demo data: what is run, in which size, and what has to come out.

Two iterations: the second is done again from the checkpoint of the first, and the test has to give the metrics of the
last validation. The smallest network of every host and family runs as its config has it; the others with one block per
stage and a quarter of the width, their kernels unchanged.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]

#: The smallest network per host and family, leaving aside the series of smaller kernels.
FULL_SIZE = (
    'ade20k/upernet_pelk_t',
    'ade20k/upernet_replknet_31b',
    'ade20k/upernet_shiftwise_v1_t',
    'ade20k/upernet_slak_t',
    'ade20k/upernet_unireplknet_t',
    'coco/cascade_mask_rcnn_pelk_t',
    'coco/cascade_mask_rcnn_replknet_31b',
    'coco/cascade_mask_rcnn_shiftwise_t',
    'coco/cascade_mask_rcnn_slak_t',
    'coco/cascade_mask_rcnn_unireplknet_t',
    'imagenet/pelk_t',
    'imagenet/replknet_31b',
    'imagenet/shiftwise_v1_t',
    'imagenet/slak_t',
    'imagenet/unireplknet_a',
)
SIZES = {True: 'as configured', False: 'one block per stage, quarter width'}
STEPS = ('train', 'validate', 'resume', 'test')
ITERATIONS = 2
#: With which the tools end after Ctrl-C.
INTERRUPT_STATUS = 130

#: Pictures: one batch, so that an epoch is one iteration and both kinds of loops can be interrupted after the first.
FEW = dict(batch_size=2, num_train=2, num_val=2)
ADAPTERS = ('classification', 'detection', 'segmentation')
#: After two iterations no score passes a threshold, and without a detection there is nothing to evaluate.
ALL_DETECTIONS = {
    'CascadeRCNN': ['model.test_cfg.rcnn.score_thr=0.0'],
    'FCOS': ['model.test_cfg.score_thr=0.0', 'model.test_cfg.nms_pre=20'],
}


class StepFailed(Exception):
    """A step did not do what it should; the message is the sentence for the result file."""


def config_names() -> list[str]:
    """``folder/stem`` of every leaf config."""
    paths = (ROOT / 'configs').glob('*/*.py')
    return sorted(f'{path.parent.name}/{path.stem}' for path in paths if path.parent.name != '_base_')


def load(name: str):
    from mmengine.config import Config

    return Config.fromfile(ROOT / f'configs/{name}.py')


def fingerprint(name: str) -> str:
    """Changes when the config does, also through its bases; empty for a config that cannot be read."""
    try:
        content = json.dumps(load(name).to_dict(), sort_keys=True, default=str)
    except Exception:
        # Running it says why.
        return ''
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def options_of(name: str) -> list[str]:
    """What ``--cfg-options`` sets for a config: its size, and that every iteration is logged and saved."""
    model = load(name).model
    options = [] if name in FULL_SIZE else shrink(model)
    hooks = ['default_hooks.checkpoint.interval=1', 'default_hooks.logger.interval=1']
    return [*options, *ALL_DETECTIONS.get(model.type, []), *hooks]


def shrink(model) -> list[str]:
    """Options for one block per stage and a quarter of the width, in the backbone and what depends on its channels."""
    from mmengine.registry import MODELS

    backbone = MODELS.get(model.backbone.type)
    fields = backbone.resolve_arch(model.backbone.arch, {})
    options = {'backbone.depths': '[1,1,1,1]'}
    if 'width_factor' in fields:
        factor = options['backbone.width_factor'] = fields['width_factor'] / 4
        channels = [int(base * factor) for base in fields['base_channels']]
    else:
        channels = [channels // 4 for channels in fields['channels']]
        options['backbone.channels'] = written(channels)
    if 'decode_head' in model:
        options['decode_head.in_channels'] = written(channels)
        options['auxiliary_head.in_channels'] = channels[model.auxiliary_head.in_index]
        # UperNet costs several times what is left of the backbone.
        for head in ('decode_head', 'auxiliary_head'):
            options[f'{head}.channels'] = model[head].channels // 4
    elif 'neck' in model:
        options['neck.in_channels'] = written(channels)
    else:
        options['head.in_channels'] = channels[-1]
    return [f'model.{key}={value}' for key, value in options.items()]


def written(values: list[int]) -> str:
    """A list for ``--cfg-options``, which takes no blanks."""
    return f'[{",".join(map(str, values))}]'


@contextmanager
def short_demo() -> Iterator[None]:
    """Few demo pictures, two iterations, and a log without what takes half of the time of so short a run."""
    with ExitStack() as stack:
        for adapter in ADAPTERS:
            module = import_module(f'mmlk.datasets.demo.{adapter}')
            sizes = {**getattr(module, 'SIZES', {}), **FEW}
            stack.enter_context(patch.object(module, 'SIZES', sizes, create=True))
        stack.enter_context(patch('mmengine.config.config.FormatCode', lambda code, **style: (code, False)))
        stack.enter_context(patch('mmengine.runner.runner.collect_env', dict))
        stack.enter_context(patch.dict(os.environ, MMLK_DEMO_ITERS=str(ITERATIONS), LOCAL_RANK='0'))
        yield


def run_tool(*arguments) -> None:
    """Run a tool; its own error is the sentence where it fails."""
    import tool_runner

    result = tool_runner.run_tool(*arguments)
    if result.code == INTERRUPT_STATUS:
        raise KeyboardInterrupt
    if result.code != 0:
        lines = result.err.strip().splitlines() or [f'{arguments[0]} ended with status {result.code}']
        errors = [line.removeprefix('error: ') for line in lines if line.startswith('error: ')]
        raise StepFailed((errors or lines)[-1])


def take_log(work_dir: Path) -> tuple[dict[int, dict], dict | None]:
    """Iterations that a run has logged, by number, and its last validation; the log is gone afterwards."""
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    # MMEngine names the folder by the second, and the next run may start within the same one.
    shutil.rmtree(log.parents[1])
    validations = [record for record in records if 'loss' not in record]
    return {record['step']: record for record in records if 'loss' in record}, (validations or [None])[-1]


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise StepFailed(sentence)


def steps_of(name: str, work_dir: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Run a config; yields every step that passed, with the metrics known then.

    Raises:
        StepFailed: The step after the last one did not pass.
    """
    config, options = f'configs/{name}.py', ['--cfg-options', *options_of(name)]
    command = [config, '--demo', '--work-dir', work_dir / 'run']
    run_tool('train.py', *command, *options)
    trained, validation = take_log(work_dir / 'run')
    require(sorted(trained) == [1, 2], f'training logged iterations {sorted(trained)} instead of 1 and 2')
    losses = [record['loss'] for record in trained.values()]
    require(all(map(math.isfinite, losses)), f'losses must be finite, got {losses}')
    yield 'train', {}

    require(bool(validation), 'training ended without a validation')
    yield 'validate', main_metric(validation)

    first, last = sorted((work_dir / 'run').glob('*_[12].pth'))
    last.unlink()
    (work_dir / 'run' / 'last_checkpoint').write_text(str(first))
    run_tool('train.py', *command, '--resume', *options)
    resumed, validation = take_log(work_dir / 'run')
    require(sorted(resumed) == [2], f'the resumed run logged iterations {sorted(resumed)} instead of 2')
    rates = [run[2]['lr'] for run in (trained, resumed)]
    require(rates[0] == rates[1], f'learning rate of iteration 2 was {rates[0]}, and {rates[1]} when resumed')
    require(last.is_file() and bool(validation), 'the resumed run left no checkpoint or validation')
    yield 'resume', main_metric(validation)

    out = work_dir / 'metrics.json'
    tested = [config, last, '--demo', '--work-dir', work_dir / 'test', '--out', out]
    run_tool('test.py', *tested, *options)
    found, expected = main_metric(json.loads(out.read_text())), main_metric(validation)
    same = all(math.isclose(found[key], expected[key], abs_tol=1e-3) for key in expected)
    require(same, f'the test gave {found}, the last validation {expected}')
    yield 'test', found


def main_metric(metrics: dict[str, float]) -> dict[str, float]:
    """The metric of the tables, in percent."""
    from mmlk.cli.measured import METRICS

    found = {name: round(factor * metrics[key], 4) for key, (name, factor) in METRICS.items() if key in metrics}
    require(bool(found), f'expected one of the metrics {sorted(METRICS)}, got {sorted(metrics)}')
    require(all(0 <= value <= 100 for value in found.values()), f'metrics must be 0 to 100 %, got {found}')
    return found


def run_config(name: str, work_dir: Path) -> dict:
    """The entry of one config in the result file."""
    start = time.perf_counter()
    outcome = dict.fromkeys(STEPS, 'not run')
    metrics, error = {}, None
    shutil.rmtree(work_dir, ignore_errors=True)
    try:
        for step, found in steps_of(name, work_dir):
            outcome[step], metrics = 'passed', found
    except Exception as failure:
        # One config of many: the file says what is wrong with it, and the others run.
        failed = next(step for step in STEPS if outcome[step] == 'not run')
        text = ' '.join(str(failure).split())[:300]
        outcome[failed], error = 'failed', text if type(failure) is StepFailed else f'{type(failure).__name__}: {text}'
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)
        gc.collect()
    return {
        'size': SIZES[name in FULL_SIZE],
        'iterations': ITERATIONS,
        **outcome,
        'metrics': metrics,
        'seconds': round(time.perf_counter() - start, 1),
        'error': error,
        'date': date.today().isoformat(),
        'config': fingerprint(name),
    }


def passed(entry: dict) -> bool:
    return all(entry[step] == 'passed' for step in STEPS)
