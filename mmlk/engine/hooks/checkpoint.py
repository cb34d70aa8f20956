"""Checkpoints that are whole, durable, and enough to go on exactly."""

from __future__ import annotations

import logging
import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from mmlk.engine.loops.exact import STATE, ExactLoop
from mmlk.errors import UsageError
from mmlk.files import write_whole, written_whole
from mmlk.registry import HOOKS

#: What the names of our files look like while they are written; see mmlk.files.
_PARTIAL = re.compile(r'(\.pth|^last_checkpoint)\.\d+\.part$')


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's hook, with files that survive whatever ends the run.

    A checkpoint is written beside its place, flushed to the disk and renamed; the older ones are removed only after
    that, and ``last_checkpoint`` follows in the same way. So there is a whole checkpoint at any moment, from the first
    one on. The files also hold what the loops of :mod:`mmlk.engine.loops` need to go on exactly.

    A checkpoint that cannot be written, as on a full disk, does not end the run: an error is logged, the older ones
    stay, and it is tried again after ``retry_interval`` iterations. The run fails only where the last one cannot be
    written.

    Args:
        max_keep_ckpts: Checkpoints to keep besides the best; -1 keeps all, and fewer than 2 are taken as 2.
        retry_interval: Iterations from a checkpoint that could not be written to the next attempt.
        **kwargs: Those of MMEngine's hook: ``interval``, ``by_epoch``, ``save_best``, ``rule``, ``out_dir``, ...

    Note:
        With MMEngine's FlexibleRunner, the strategy writes the files its own way, in place.

    Example:
        >>> default_hooks = dict(checkpoint=dict(type='mmlk.CheckpointHook', by_epoch=False, interval=16000))
    """

    def __init__(self, max_keep_ckpts: int = -1, retry_interval: int = 100, **kwargs: Any) -> None:
        # MMEngine's own rotation removes first and writes afterwards.
        super().__init__(max_keep_ckpts=-1, **kwargs)
        self.keep = max(2, max_keep_ckpts) if max_keep_ckpts > 0 else None
        self.retry_interval = retry_interval
        #: Names of the checkpoints in the rotation, the oldest first.
        self.kept: list[str] = []
        self._state: dict[str, Any] | None = None
        self._saved_at: int | None = None
        self._retry_at: int | None = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Hand the loop its state; it uses it if the run is resumed."""
        # Building a loop that is not wanted, as in a test, would build its data set.
        if isinstance(runner._train_loop, ExactLoop):
            runner._train_loop.load_state_dict(checkpoint.get(STATE))

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the state of the loop into the checkpoint."""
        if self._state is not None:
            checkpoint[STATE] = self._state

    def before_train(self, runner) -> None:
        """Find the folder and what is kept in it; remove what a killed run has left half-written."""
        super().before_train(runner)
        info = runner.message_hub.runtime_info
        # The second is that of MMEngine's hook.
        steps = info.get('keep_ckpt_ids', [])
        self.kept = list(info.get('kept_checkpoints', [self.filename_tmpl.format(step) for step in steps]))
        if is_main_process() and self._is_local():
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                for path in folder.glob('*.part'):
                    if _PARTIAL.search(path.name):
                        path.unlink(missing_ok=True)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Save where it is due, or where it was and failed."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        done = runner.iter + 1
        if self._retry_at is not None and done >= self._retry_at:
            self._save(runner, f'iter_{done}.pth', dict(epoch=runner.epoch, iter=done), is_last=False)

    def save_now(self, runner) -> None:
        """Save after the iteration that is done, on request.

        Raises:
            UsageError: It cannot be written.
        """
        if self._saved_at != runner.iter:
            name, meta = f'iter_{runner.iter}.pth', dict(epoch=runner.epoch, iter=runner.iter)
            self._save(runner, name, meta, is_last=True)

    def _save_checkpoint(self, runner) -> None:
        """Save as MMEngine's hook asks for it, at the end of an epoch or after an iteration."""
        if self.by_epoch:
            meta = dict(epoch=runner.epoch + 1, iter=runner.iter)
            is_last, step = self.is_last_train_epoch(runner), runner.epoch + 1
        else:
            meta = dict(epoch=runner.epoch, iter=runner.iter + 1)
            is_last, step = self.is_last_train_iter(runner), runner.iter + 1
        self._save(runner, self.filename_tmpl.format(step), meta, is_last)

    def _save(self, runner, name: str, meta: dict[str, int], is_last: bool) -> None:
        """Save, then remove what is too old.

        Raises:
            UsageError: The last checkpoint of a run cannot be written.
        """
        epoch_done = meta['epoch'] > runner.epoch
        loop = runner.train_loop
        self._state = loop.gather_state(epoch_done) if isinstance(loop, ExactLoop) else None
        path = self.file_backend.join_path(self.out_dir, name)
        kept = [*(each for each in self.kept if each != name), name]
        outdated = kept[: -self.keep] if self.keep else []
        hub = runner.message_hub
        before = dict(last_ckpt=self.last_ckpt, kept_checkpoints=self.kept)
        # The file says what there is once it is written.
        hub.update_info_dict(dict(last_ckpt=path, kept_checkpoints=kept[len(outdated) :]))
        try:
            reason = self._write(
                runner,
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                **self.args,
            )
        finally:
            self._state = None
        if reason is not None:
            hub.update_info_dict(before)
            self._retry_at = meta['iter'] + self.retry_interval
            self._complain(runner, path, reason, is_last)
            return
        self._retry_at, self._saved_at = None, meta['iter']
        self.last_ckpt, self.kept = path, kept[len(outdated) :]
        if not is_main_process():
            return
        write_whole(Path(runner.work_dir, 'last_checkpoint'), path, durable=True)
        for each in outdated:
            self._remove(self.file_backend.join_path(self.out_dir, each))

    def _save_best_checkpoint(self, runner, metrics: dict[str, float]) -> None:
        """Save the model if a metric is better than ever, then remove the one that was the best."""
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        step = runner.epoch if self.by_epoch else runner.iter
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        hub, improved = runner.message_hub, False
        for indicator, rule in zip(self.key_indicators, self.rules):
            single = len(self.key_indicators) == 1
            score_key, path_key = ('best_score', 'best_ckpt') if single else _best_keys(indicator)
            score, old = metrics[indicator], hub.runtime_info.get(path_key)
            best = hub.runtime_info.get(score_key, self.init_value_map[rule])
            if score is None or not self.is_better_than[indicator](score, best):
                continue
            name = f'best_{indicator}_{self.filename_tmpl.format(step)}'.replace('/', '_')
            path = self.file_backend.join_path(self.out_dir, name)
            reason = self._write(
                runner, name, save_optimizer=False, save_param_scheduler=False, meta=dict(meta), by_epoch=False
            )
            if reason is not None:
                self._complain(runner, path, reason, is_last=False)
                continue
            improved = True
            hub.update_info_dict({score_key: score, path_key: path})
            if single:
                self.best_ckpt_path = path
            else:
                self.best_ckpt_path_dict[indicator] = path
            runner.logger.info(f'{indicator} is {score:0.4f}, the best so far: saved as {name}')
            if old and old != path and is_main_process():
                self._remove(old)
        if improved and self._saved_at == runner.iter:
            # The regular one of this iteration, written before validation, does not know of it.
            self._save(runner, os.path.basename(self.last_ckpt), meta, is_last=False)

    def _write(self, runner, name: str, **what: Any) -> str | None:
        """Write a checkpoint; every process has to call it.

        Returns:
            Why it could not be written, or ``None``.
        """
        # Strategies of a flexible runner write folders, or parts of a file from several processes.
        beside = is_main_process() and self._is_local() and isinstance(runner, Runner)
        reason = None
        try:
            with written_whole(Path(self.out_dir, name), durable=True) if beside else nullcontext(Path(name)) as target:
                runner.save_checkpoint(
                    self.out_dir, target.name, self.file_client_args, backend_args=self.backend_args, **what
                )
        except OSError as error:
            reason = str(error)
        # Only the first process writes; the others have to know.
        failed = torch.tensor(reason is not None, dtype=torch.int32)
        broadcast(failed)
        return reason or ('see the first process' if failed else None)

    def _complain(self, runner, path: str, reason: str, is_last: bool) -> None:
        last = self.last_ckpt or 'none'
        text = f'the checkpoint {path} could not be written ({reason}), the last whole one is {last}'
        if is_last:
            raise UsageError(f'{text}; make room or permit writing, and continue with the same command and --resume')
        runner.logger.log(
            logging.ERROR,
            f'{text}; trying again in {self.retry_interval} iterations, make room or permit writing until then',
        )

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            # As strategies such as DeepSpeed write them.
            self.file_backend.rmtree(path)

    def _is_local(self) -> bool:
        return isinstance(self.file_backend, LocalBackend) and os.path.isdir(self.out_dir)


def _best_keys(indicator: str) -> tuple[str, str]:
    """Where MMEngine keeps the best score and its checkpoint, if there are several indicators."""
    return f'best_score_{indicator}', f'best_ckpt_{indicator}'
