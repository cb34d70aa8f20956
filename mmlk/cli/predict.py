"""The run behind ``tools/predict.py``: pictures in, predictions and drawn pictures out."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mmlk.cli.config import read_config
from mmlk.cli.device import resolve_device
from mmlk.cli.errors import INTERRUPT_STATUS
from mmlk.cli.progress import make_progress
from mmlk.cli.run import require_file
from mmlk.cli.summary import print_table
from mmlk.errors import UsageError
from mmlk.inference import Picture, PictureError, Predictor, Results, find_pictures, make_results, read_picture
from mmlk.inference.results import LABELS, PICTURES, Options

#: The status of a run in which some pictures could not be used.
FAILED_STATUS = 1


@dataclass(frozen=True)
class Plan:
    """What is to be predicted, found to be possible.

    Attributes:
        predictor: The model.
        results: Where its predictions go.
        folder: Folder that the names of the pictures are relative to.
        others: Files in it that were left out.
        batch_size: Pictures at once.
    """

    predictor: Predictor
    results: Results
    folder: Path
    others: Sequence[str]
    batch_size: int


def prepare(args: argparse.Namespace) -> Plan:
    """Find the pictures, build the model and load its weights.

    Raises:
        UsageError: Nothing can be predicted as the arguments say.
    """
    source, out = args.source.expanduser(), args.out.expanduser()
    require_file(args.checkpoint)
    device = torch.device(resolve_device(args.device))
    names, others = find_pictures(source, skip=out)
    check_folder(source, out)
    cfg = read_config(args.config, args.cfg_options)
    predictor = Predictor(cfg, args.checkpoint, device, args.deploy)
    if args.score_thr is not None and predictor.task != 'detection':
        raise UsageError(f'--score-thr is for detectors, {args.config} is for {predictor.task}; leave it out')
    options = Options(
        labels=None if args.classes is None else predictor.labels_of(args.classes),
        score_thr=Options.score_thr if args.score_thr is None else args.score_thr,
        opacity=args.opacity,
    )
    described = dict(config=str(args.config), checkpoint=str(args.checkpoint), deploy=args.deploy)
    results = make_results(predictor, names, out, options, described)
    folder = source if source.is_dir() else source.parent
    check_overwriting(results, [folder / name for name in names])
    return Plan(predictor, results, folder, others, args.batch_size)


def run(plan: Plan) -> int:
    """Predict, write and report; the exit status.

    Raises:
        UsageError: A result cannot be written.
    """
    results, start = plan.results, time.perf_counter()
    problems: list[str] = []
    status = 0
    try:
        _predict_all(plan, problems)
    except KeyboardInterrupt:
        print(f'\nstopped after {len(results.records)} of {len(results.names)} pictures', file=sys.stderr)
        status = INTERRUPT_STATUS
    for problem in problems:
        print(f'problem: {problem}', file=sys.stderr)
    done = len(results.records)
    rows = [('task', plan.predictor.task), ('pictures', f'{done} of {len(results.names)} predicted')]
    if plan.others:
        rows.append(('left out', f'{len(plan.others)} files that are no pictures by name, such as {plan.others[0]}'))
    if done:
        seconds = time.perf_counter() - start
        rows.append(('time', f'{seconds:.1f} s, {seconds / done:.2f} s per picture'))
        rows += [('predictions', str(results.write())), ('drawn', str(results.out / PICTURES))]
        if plan.predictor.task == 'segmentation':
            rows.append(('label maps', str(results.out / LABELS)))
    print_table('predicted', rows)
    return status or (FAILED_STATUS if problems else 0)


def check_folder(source: Path, out: Path) -> None:
    """Raise ``UsageError`` unless ``out`` can be the folder of the results."""
    if out.exists() and not out.is_dir():
        raise UsageError(f'--out must be a folder, {out} is a file')
    if source.is_dir() and out.exists() and out.samefile(source):
        raise UsageError(f'--out must be another folder than that of the pictures, got {out} for both')


def check_overwriting(results: Results, inputs: Iterable[Path]) -> None:
    """Raise ``UsageError`` if a result would be written over one of the pictures."""
    pictures = {path.resolve() for path in inputs}
    for path in results.files():
        if path.resolve() in pictures:
            raise UsageError(f'--out {results.out} would write over the picture {path}; give another folder')


def _predict_all(plan: Plan, problems: list[str]) -> None:
    """Predict pictures one batch after the other; what cannot be used goes to ``problems``."""
    predictor, names = plan.predictor, plan.results.names
    with make_progress() as progress:
        task = progress.add_task('predicting', total=len(names))

        def prepared() -> Iterator[tuple[Picture, dict]]:
            for name in names:
                try:
                    picture = read_picture(plan.folder / name, name)
                    yield picture, predictor.prepare(picture)
                except PictureError as error:
                    problems.append(str(error))
                    progress.advance(task)

        for batch in batches(prepared(), plan.batch_size):
            problems += _predict_batch(predictor, plan.results, batch)
            progress.advance(task, len(batch))


def batches(prepared: Iterable[tuple[Picture, dict]], size: int) -> Iterator[list[tuple[Picture, dict]]]:
    """Pictures that follow each other and are equally large after the pipeline, at most ``size`` of them.

    A segmentor takes no others, and the rest of a network does not gain from padding.
    """
    batch: list[tuple[Picture, dict]] = []
    for entry in prepared:
        if batch and (len(batch) == size or batch[0][1]['inputs'].shape != entry[1]['inputs'].shape):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch


def _predict_batch(predictor: Predictor, results: Results, batch: list[tuple[Picture, dict]]) -> list[str]:
    """Predict one batch; what went wrong, a sentence per picture."""
    try:
        samples = predictor.predict([data for _, data in batch])
    except RuntimeError as error:
        if os.environ.get('MMLK_TRACEBACK'):
            raise
        if len(batch) > 1:
            # One picture after the other says which it is, and may fit into memory.
            return [problem for entry in batch for problem in _predict_batch(predictor, results, [entry])]
        height, width = batch[0][1]['inputs'].shape[-2:]
        reason = str(error).strip().partition('\n')[0]
        return [f'{batch[0][0].path}: the model failed at {width} x {height} pixels ({reason})']
    problems = []
    for (picture, _), sample in zip(batch, samples, strict=True):
        try:
            results.add(picture, sample)
        except PictureError as error:
            problems.append(str(error))
    return problems
