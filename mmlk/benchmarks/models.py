"""Images per second and peak memory of a network built from a config."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, OPTIMIZERS, init_default_scope
from torch import nn

from mmlk.benchmarks.memory import peak_mib
from mmlk.benchmarks.synthetic import HOSTS, make_data
from mmlk.benchmarks.timing import Clock, interleave
from mmlk.errors import UsageError
from mmlk.models.reparam import switch_to_deploy

MODES = ('train', 'inference')
FORMS = ('train', 'fused')

#: Batch and (H, W) by host: on the CPU what takes seconds, on a GPU the size of the recipes.
DEFAULTS = {
    ('cpu', 'mmpretrain'): (4, (128, 128)),
    ('cpu', 'mmseg'): (2, (128, 128)),
    ('cpu', 'mmdet'): (1, (128, 192)),
    ('cuda', 'mmpretrain'): (64, (224, 224)),
    ('cuda', 'mmseg'): (4, (512, 512)),
    ('cuda', 'mmdet'): (2, (800, 1280)),
}


@dataclass(frozen=True)
class Variant:
    """One way to run the network.

    Attributes:
        mode: ``'train'`` (forward, backward and optimizer step) or ``'inference'`` (forward).
        form: ``'train'`` or ``'fused'``.
        compiled: Whether the backbone goes through ``torch.compile``.
    """

    mode: str
    form: str
    compiled: bool

    def __str__(self) -> str:
        return f'{self.mode}, {self.form} form, {"compiled" if self.compiled else "eager"}'


def host_of(cfg: Config) -> str:
    """The toolbox of a config.

    Raises:
        UsageError: It names none that is known.
    """
    host = cfg.get('default_scope')
    if host not in HOSTS or 'model' not in cfg:
        raise UsageError(f'expected a config with a model and default_scope {", ".join(HOSTS)}, got {host}')
    return host


def variants(modes: list[str], forms: list[str], compiled: bool) -> list[Variant]:
    """What is to be measured; the fused form comes last, because fusing cannot be undone.

    Raises:
        UsageError: Nothing is left: a fused network is not trained.
    """
    found = [
        Variant(mode, form, each)
        for form in FORMS
        for mode in MODES
        for each in ((False, True) if compiled else (False,))
        if form in forms and mode in modes and (mode, form) != ('train', 'fused')
    ]
    if not found:
        raise UsageError('--mode train needs --form train: the fused form is not trained further')
    return found


def build_model(cfg: Config, image_size: tuple[int, int], device: str) -> nn.Module:
    """The model of a config with random weights.

    Pretrained weights are not loaded and synchronised BatchNorms become plain ones: neither matters for the speed of
    one process.
    """
    init_default_scope(cfg.default_scope)
    config = copy.deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:
        config.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    _forget_pretrained(config)
    if config.get('data_preprocessor', {}).get('size') is not None:
        # Images would be padded to the recipe's crop.
        config.data_preprocessor.size = image_size
    model = revert_sync_batchnorm(MODELS.build(config))
    with quiet_initialisation():
        model.init_weights()
    return model.to(device)


@contextmanager
def quiet_initialisation() -> Iterator[None]:
    """MMEngine prints a paragraph for every parameter it initialises."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def set_backend(model: nn.Module, backend: str | None) -> int:
    """Force a backend of the op in every module of ``mmlk`` that has one; the number of modules."""
    modules = [m for m in model.modules() if type(m).__module__.split('.')[0] == 'mmlk' and hasattr(m, 'backend')]
    for module in modules:
        module.backend = backend
    return len(modules)


class ModelBenchmark:
    """A network, its batch and its optimizer.

    Args:
        cfg: Config with a model.
        device: ``'cpu'`` or ``'cuda'``.
        batch_size: Images.
        image_size: (H, W) in pixels.
        backbone_only: Leave the heads out; the loss is then the mean square of the feature maps.
        amp: ``'bf16'`` for autocast, ``None`` for float32.
    """

    def __init__(
        self,
        cfg: Config,
        device: str,
        batch_size: int,
        image_size: tuple[int, int],
        backbone_only: bool = False,
        amp: str | None = None,
    ) -> None:
        self.cfg = cfg
        self.device = device
        self.batch_size = batch_size
        self.backbone_only = backbone_only
        self.amp = amp
        self.model = build_model(cfg, image_size, device)
        if backbone_only:
            self.model = self.model.backbone
            self.images = torch.randn(batch_size, 3, *image_size, device=device)
        else:
            self.data = make_data(host_of(cfg), cfg.model, batch_size, image_size)
        self.optimizer: torch.optim.Optimizer | None = None
        self._fused = False

    @property
    def backbone(self) -> nn.Module:
        """The part with the large kernels."""
        return self.model if self.backbone_only else self.model.backbone

    def prepare(self, variant: Variant) -> Callable[[], object]:
        """Bring the network into a variant; the answer runs one step."""
        if variant.form == 'fused' and not self._fused:
            self.optimizer = None
            switch_to_deploy(self.model)
            self._fused = True
        self.model.train(variant.mode == 'train')
        # nn.Module.compile, which keeps the module, its hooks and its state dict; None takes it back.
        self.backbone._compiled_call_impl = None
        if variant.compiled:
            self.backbone.compile()
        if variant.mode == 'inference':
            self.optimizer = None
            self.model.zero_grad(set_to_none=True)
            return self._inference_step()
        if self.optimizer is None:
            self.optimizer = _build_optimizer(self.cfg, self.model)
        return self._train_step()

    def _autocast(self) -> AbstractContextManager:
        return nullcontext() if self.amp is None else torch.autocast(self.device, dtype=torch.bfloat16)

    def _inference_step(self) -> Callable[[], object]:
        if self.backbone_only:
            arguments, options = (self.images,), {}
        else:
            data = self.model.data_preprocessor(copy.deepcopy(self.data), False)
            arguments, options = (data['inputs'], data['data_samples']), {'mode': 'tensor'}

        def step() -> object:
            with torch.no_grad(), self._autocast():
                return self.model(*arguments, **options)

        return step

    def _train_step(self) -> Callable[[], object]:
        if not self.backbone_only:
            data = self.model.data_preprocessor(copy.deepcopy(self.data), True)

        def step() -> None:
            with self._autocast():
                if self.backbone_only:
                    loss = sum(output.float().square().mean() for output in self.model(self.images))
                else:
                    loss, _ = self.model.parse_losses(self.model(data['inputs'], data['data_samples'], mode='loss'))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

        return step

    def measure(self, variant: Variant, backends: list[str | None], clock: Clock, seconds: float) -> list[dict]:
        """Rows of a variant, one per backend, measured in turns.

        Args:
            variant: How to run.
            backends: One backend, or one and the one it is compared with; ``None`` lets the dispatcher choose.
            clock: Clock of the device.
            seconds: Time per backend.
        """
        step = self.prepare(variant)

        def run_on(backend: str | None) -> Callable[[], object]:
            def run() -> None:
                set_backend(self.model, backend)
                step()

            return run

        runs = {name: run_on(backend) for name, backend in zip(('ours', 'other'), backends)}
        peaks, estimates = [], {}
        for name, run in runs.items():
            # The first step allocates what stays (optimizer state, compiled code).
            run()
            peaks.append(peak_mib(run, self.device))
            estimates[name] = clock.time(run)()
        own, others = interleave(clock, runs.pop('ours'), runs, estimates, seconds)
        rows = [
            {
                'mode': variant.mode,
                'form': variant.form,
                'compiled': variant.compiled,
                'backend': backend,
                'step': timing.record(),
                'images_per_s': 1e3 * self.batch_size / timing.median_ms,
                'peak_mib': peak,
            }
            for backend, timing, peak in zip(backends, [own, *others.values()], peaks, strict=True)
        ]
        if len(rows) == 2:
            rows[0]['ratio'] = rows[0]['images_per_s'] / rows[1]['images_per_s']
        return rows


def _build_optimizer(cfg: Config, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the config, in one parameter group, or AdamW."""
    config = copy.deepcopy((cfg.get('optim_wrapper') or {}).get('optimizer') or ConfigDict(type='AdamW', lr=1e-4))
    config['params'] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return OPTIMIZERS.build(config)


def _forget_pretrained(config: object) -> None:
    """Remove every ``init_cfg`` that loads a file."""
    if isinstance(config, dict):
        if isinstance(config.get('init_cfg'), dict) and 'checkpoint' in config['init_cfg']:
            config['init_cfg'] = None
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for part in config:
            _forget_pretrained(part)
