"""The names of :func:`mmlk.create_model` in timm's registry, with ``mmlk_`` in front.

Imported when timm is; builds nothing and imports neither MMEngine nor the backbones.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from mmlk.errors import UsageError
from mmlk.factory.names import MODELS, TIMM_PREFIX, picture_settings

#: timm adds the names of the functions here.
__all__: list[str] = []

#: timm looks here for size and normalisation of pictures.
default_cfgs = {TIMM_PREFIX + name: picture_settings(name) for name in MODELS}


def register(timm_models: ModuleType) -> None:
    """Register every name, once.

    Args:
        timm_models: ``timm.models``.
    """
    for name in MODELS:
        if not timm_models.is_model(TIMM_PREFIX + name):
            timm_models.register_model(_entry_point(name))


def _entry_point(name: str) -> Callable[..., Any]:
    def create(
        pretrained: Any = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        **arguments: Any,
    ) -> Any:
        from mmlk.factory.create import create_model

        if isinstance(pretrained_cfg, str):
            raise UsageError(
                f'{TIMM_PREFIX}{name} has no weights to download, got the tag {pretrained_cfg!r}; give pretrained=PATH'
            )
        model = create_model(name, pretrained or None, **arguments)
        if pretrained_cfg:
            given = pretrained_cfg if isinstance(pretrained_cfg, dict) else pretrained_cfg.to_dict()
            model.pretrained_cfg |= {key: value for key, value in given.items() if key in picture_settings(name)}
        model.pretrained_cfg |= pretrained_cfg_overlay or {}
        return model

    create.__name__ = create.__qualname__ = TIMM_PREFIX + name
    create.__doc__ = f'The network ``{name}`` of mmlk; ``pretrained`` is the path of a file.'
    globals()[create.__name__] = create
    return create
