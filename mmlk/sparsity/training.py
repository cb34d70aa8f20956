"""Sparse training of some parameters: masks, their updates, and what is saved of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmlk.errors import UsageError
from mmlk.sparsity import distributions
from mmlk.sparsity.masks import generator_for, grow_by_score, grow_random, prune, random_mask
from mmlk.sparsity.report import LayerUpdate, UpdateReport
from mmlk.sparsity.schedules import UpdateSchedule
from mmlk.sparsity.scores import gradient_magnitude, magnitude
from mmlk.sparsity.units import Elements, Unit, weights_per_entry

DISTRIBUTIONS = ('snip', 'erk', 'uniform')
GROWTHS = ('random', 'gradient')


class SparseTraining:
    """Keep some weights at zero while a network trains, and exchange some of them now and then.

    Create it, call :meth:`init_random` or :meth:`init_static`, then :meth:`after_step` after every step of the
    optimizer.

    Args:
        parameters: Names and parameters, from :func:`~mmlk.sparsity.select_parameters`.
        unit: What a mask switches: single weights or whole kernels.
        prune_rate: Share of the active entries that an update exchanges, as a function of the optimizer step.
        updates: Steps that are followed by an update; ``None``: the masks never change.
        growth: ``'random'``, or ``'gradient'`` for the largest gradients (RigL); the gradients must be there when
            :meth:`after_step` is called.
        exact: Counts of active entries stay exactly as they are; ``False`` draws each entry by itself, as SLaK's
            authors do, and counts are right on average.
        seed: Seed of all draws. The same on every process.
        share: Groups of names whose masks are one, such as the paths of SW
            (:func:`~mmlk.sparsity.find_path_groups`).
        share_interval: 1: always one mask per group. k: every k-th update is common, pruned by the sum of the scores;
            the others change each mask on its own. ``None`` or 0: independent masks from the beginning.
        dense_above: A layer that starts with at least this density is not made sparse.

    Attributes:
        masks: Bool masks by name, True for active, on the device of the parameter; without the dense layers.
        steps: Optimizer steps seen.
        updates_done: Updates of the masks so far.

    Raises:
        UsageError: An argument is none of those above, or a group does not fit.

    Example:
        >>> layer = torch.nn.Linear(4, 2, bias=False)
        >>> sparse = SparseTraining({'weight': layer.weight})
        >>> sparse.init_random({'weight': 0.5})
        []
        >>> int((layer.weight != 0).sum())
        4
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        unit: Unit | None = None,
        prune_rate: Callable[[int], float] | None = None,
        updates: UpdateSchedule | None = None,
        growth: str = 'random',
        exact: bool = True,
        seed: int = 0,
        share: Mapping[str, Sequence[str]] | Iterable[Sequence[str]] = (),
        share_interval: int | None = 1,
        dense_above: float = 0.99,
    ) -> None:
        if growth not in GROWTHS:
            raise UsageError(f'growth must be one of {GROWTHS}, got {growth!r}.')
        self.unit = Elements() if unit is None else unit
        self.updates = UpdateSchedule(None) if updates is None else updates
        if prune_rate is None and self.updates.interval is not None:
            raise UsageError('prune_rate must be a schedule where masks are updated, got None.')
        if share_interval is not None and share_interval < 0:
            raise UsageError(f'share_interval must be a number of updates, 0 or None, got {share_interval}.')
        self.parameters = dict(parameters)
        self.prune_rate = prune_rate
        self.growth = growth
        self.exact = exact
        self.seed = seed
        self.share_interval = share_interval or None
        self.dense_above = dense_above
        self.shapes = {name: self.unit.mask_shape(name, p.shape) for name, p in self.parameters.items()}
        self.groups = self._make_groups(share.values() if isinstance(share, Mapping) else share)
        self.masks: dict[str, Tensor] = {}
        self.steps = 0
        self.updates_done = 0
        #: Masks as numbers, on the CPU.
        self._factors: dict[str, Tensor] = {}

    def densities(self, init: str, sparsity: float, scores: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Share out the active weights between the layers.

        Args:
            init: ``'snip'``, ``'erk'`` or ``'uniform'``.
            sparsity: Share of the weights at zero, in [0, 1).
            scores: What :func:`~mmlk.sparsity.snip_scores` returned, averaged over the processes; for ``'snip'``.

        Returns:
            Density of each parameter, for :meth:`init_random`. Members of a group have that of the group. With
            ``exact``, what layers from ``dense_above`` on gain by being dense is taken from the others.

        Raises:
            UsageError: ``init`` is unknown, ``sparsity`` is outside [0, 1), or scores are missing or not finite.
        """
        if init == 'snip':
            if scores is None or set(scores) != set(self.parameters):
                raise UsageError(
                    f"init='snip' needs the scores of {len(self.parameters)} parameters, got "
                    f'{"none" if scores is None else f"{len(scores)}, other ones"}: call snip_scores, or take another '
                    'init.'
                )
            joined = {
                group[0]: torch.cat([self.unit.mean(scores[name]).flatten() for name in group]) for group in self.groups
            }
            by_group = distributions.from_scores(joined, sparsity)
        elif init in DISTRIBUTIONS:
            shapes = {group[0]: self.parameters[group[0]].shape for group in self.groups}
            by_group = getattr(distributions, init)(shapes, sparsity)
        else:
            raise UsageError(f'init must be one of {DISTRIBUTIONS}, got {init!r}.')
        result = {name: by_group[group[0]] for group in self.groups for name in group}
        if not self.exact:
            return result
        return distributions.fill_dense(result, {n: p.numel() for n, p in self.parameters.items()}, self.dense_above)

    def init_random(self, densities: Mapping[str, float]) -> list[str]:
        """Draw the masks and apply them.

        Args:
            densities: Density of each parameter, in [0, 1].

        Returns:
            Names of the layers that stay dense, because the mask drawn has a density of ``dense_above`` or more.
        """
        self._forget()
        for group in self.groups:
            members = [group] if self.share_interval else [(name,) for name in group]
            for names in members:
                generator = generator_for(self.seed, names[0], 0)
                mask = random_mask(self.shapes[names[0]], densities[names[0]], generator, self.exact)
                if mask.sum() < self.dense_above * mask.numel():
                    for name in names:
                        self.masks[name] = mask.to(self.parameters[name].device, copy=True)
        self.apply()
        return self.dense_layers

    @torch.no_grad()
    def init_static(self) -> list[str]:
        """Take the masks from the zeros that the weights have.

        Returns:
            Names of the layers that stay dense: at least ``dense_above`` of theirs is not zero (random weights have a
            zero now and then), or nothing is, which is no pattern of a sparse training but an initialisation.
        """
        self._forget()
        for name, parameter in self.parameters.items():
            mask = self.unit.sum((parameter != 0).float()) > 0
            if 0 < mask.sum() < self.dense_above * mask.numel():
                self.masks[name] = mask
        return self.dense_layers

    @property
    def dense_layers(self) -> list[str]:
        """Names of the parameters without a mask."""
        return [name for name in self.parameters if name not in self.masks]

    @torch.no_grad()
    def apply(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Set masked weights to zero, in place.

        Args:
            tensors: Other tensors of the same names and shapes, such as averaged weights; ``None``: the parameters.
        """
        if not self.masks:
            return
        tensors = self.parameters if tensors is None else tensors
        torch._foreach_mul_(
            [tensors[name] for name in self.masks],
            [self._factor(name, tensors[name]) for name in self.masks],
        )

    def after_step(self, optimizer: Optimizer | None = None) -> UpdateReport | None:
        """Count a step of the optimizer, apply the masks, and update them where that is due.

        Call it after every real step, so not where an accumulating or a loss-scaling wrapper skipped it.

        Args:
            optimizer: Its moments are set to zero wherever an update changed a mask; ``None`` where it has none.

        Returns:
            What the update did, or ``None``.
        """
        self.steps += 1
        self.apply()
        if not self.masks or not self.updates.due(self.steps):
            return None
        return self._update(optimizer)

    def density(self) -> dict[str, float]:
        """Share of active entries of every parameter, 1 for the dense ones."""
        return {name: active / max(total, 1) for name, (active, total) in self.counts().items()}

    def counts(self) -> dict[str, tuple[int, int]]:
        """Number of active weights, and of all weights, of every parameter."""
        result = {}
        for name, parameter in self.parameters.items():
            total = active = parameter.numel()
            if name in self.masks:
                active = int(self.masks[name].sum()) * weights_per_entry(parameter.shape, self.shapes[name])
            result[name] = (active, total)
        return result

    def state_dict(self) -> dict[str, object]:
        """Masks and counters: tensors, ints and strings only, so that a checkpoint loads with ``weights_only``."""
        return {
            'steps': self.steps,
            'updates_done': self.updates_done,
            'masks': {name: mask.clone() for name, mask in self.masks.items()},
            'dense': self.dense_layers,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from a state, bit-exactly, and apply its masks.

        Raises:
            UsageError: The state is of other layers or shapes.
        """
        missing = {'steps', 'updates_done', 'masks', 'dense'} - set(state)
        if missing:
            raise UsageError(f'The state of sparse training must hold {sorted(missing)}, got {sorted(state)}.')
        masks, dense = state['masks'], state['dense']
        names, own = {*masks, *dense}, set(self.parameters)
        if names != own:
            raise UsageError(
                f'The masks of the checkpoint must be of the {len(own)} layers that are sparse here, got {len(names)} '
                f'({_examples("only there", names - own)}; {_examples("only here", own - names)}): resume with the '
                'same model and scope, or start from the weights without resuming.'
            )
        for name, mask in masks.items():
            if tuple(mask.shape) != self.shapes[name] or mask.dtype != torch.bool:
                raise UsageError(
                    f'The mask of {name} must be bool of shape {self.shapes[name]}, got {mask.dtype} of shape '
                    f'{tuple(mask.shape)} in the checkpoint: resume with the same model and unit, or start from the '
                    'weights without resuming.'
                )
        self._forget()
        self.masks = {
            name: masks[name].to(parameter.device, copy=True)
            for name, parameter in self.parameters.items()
            if name in masks
        }
        self.steps, self.updates_done = int(state['steps']), int(state['updates_done'])
        self.apply()

    @torch.no_grad()
    def _update(self, optimizer: Optimizer | None) -> UpdateReport:
        self.updates_done += 1
        self._factors.clear()
        rate = self.prune_rate(self.steps)
        synchronised = self.share_interval is not None and self.updates_done % self.share_interval == 0
        layers = {}
        for group in self.groups:
            group = tuple(name for name in group if name in self.masks)
            for names in [group] if synchronised and group else [(name,) for name in group]:
                report, mask = self._exchange(names, rate)
                for name in names:
                    changed = self.masks[name] != mask
                    self.masks[name].copy_(mask)
                    _reset_moments(optimizer, self.parameters[name], changed)
                    layers[name] = report
        self.apply()
        return UpdateReport(self.steps, self.updates_done, rate, synchronised, layers)

    def _exchange(self, names: Sequence[str], rate: float) -> tuple[LayerUpdate, Tensor]:
        """The next mask of layers with a common one: that of the first, pruned by the scores of all."""
        first = names[0]
        mask = self._mask_on(first, self.parameters[first].device)
        before = int(mask.sum())
        scores = sum(self.unit.sum(magnitude(self.parameters[name])) for name in names)
        pruned = prune(mask, scores, math.ceil(rate * before))
        removed = before - int(pruned.sum())
        if self.growth == 'gradient':
            grown = grow_by_score(pruned, sum(self._gradient_scores(name) for name in names), removed)
        else:
            generator = generator_for(self.seed, first, self.updates_done)
            grown = grow_random(pruned, removed, generator, self.exact)
        after = int(grown.sum())
        return LayerUpdate(removed, after - before + removed, after / mask.numel()), grown

    def _gradient_scores(self, name: str) -> Tensor:
        grad = self.parameters[name].grad
        if grad is None:
            raise UsageError(
                f"growth='gradient' needs the gradient of {name} at the update, got none: call after_step right after "
                "the optimizer's step, before gradients are cleared, and leave out layers that get no gradient."
            )
        return self.unit.sum(gradient_magnitude(grad))

    def _forget(self) -> None:
        self.masks, self.steps, self.updates_done = {}, 0, 0
        self._factors.clear()

    def _factor(self, name: str, tensor: Tensor) -> Tensor:
        """What masks ``tensor`` by multiplication.

        On the CPU, a product with bools converts them first, which takes longer than the product: there, numbers are
        kept, of 4 bytes per float32 weight.
        """
        mask = self._mask_on(name, tensor.device)
        if tensor.device.type != 'cpu':
            return mask
        factor = self._factors.get(name)
        if factor is None or factor.dtype != tensor.dtype:
            factor = self._factors[name] = mask.to(tensor.dtype)
        return factor

    def _mask_on(self, name: str, device: torch.device) -> Tensor:
        """The mask where its weights are; the masks follow parameters that were moved."""
        mask = self.masks[name]
        if mask.device != device:
            mask = mask.to(device)
            if self.parameters[name].device == device:
                self.masks[name] = mask
        return mask

    def _make_groups(self, share: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
        """All names, those that share a mask together."""
        groups, grouped = {}, set()
        for group in share:
            for name in group:
                if name not in self.parameters or name in grouped:
                    raise UsageError(f'share must name every sparse parameter at most once, got {name!r}.')
                if self.shapes[name] != self.shapes[group[0]]:
                    raise UsageError(
                        f'Layers that share a mask must be of one shape, got {self.shapes[group[0]]} for {group[0]} '
                        f'and {self.shapes[name]} for {name}.'
                    )
                grouped.add(name)
            groups[group[0]] = tuple(group)
        return [groups.get(name, (name,)) for name in self.parameters if name in groups or name not in grouped]


def _reset_moments(optimizer: Optimizer | None, parameter: nn.Parameter, changed: Tensor) -> None:
    """Zero every state tensor of the parameter's shape where its mask changed."""
    if optimizer is None or parameter not in optimizer.state:
        return
    changed = changed.expand(parameter.shape)
    for value in optimizer.state[parameter].values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(changed.to(value.device), 0)


def _examples(what: str, names: set[str]) -> str:
    shown = sorted(names)[:2]
    more = f' and {len(names) - len(shown)} more' if len(names) > len(shown) else ''
    return f'{what}: {", ".join(shown) or "none"}{more}'
