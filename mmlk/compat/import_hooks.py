"""Two additions to the import system: a module for a name nobody else provides, and a callback after an import."""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ['provide_when_missing', 'when_imported']


def provide_when_missing(fullname: str, source: str) -> None:
    """Answer the import of ``fullname`` from the module ``source`` where no other finder can.

    The finder goes to the end of ``sys.meta_path``: a real module of that name always wins and is left alone, even one
    that is found and then fails to load, because hiding a broken installation would be worse than reporting it.

    Args:
        fullname: Dotted name of the module to provide; its parent package must be importable.
        source: Dotted name of a module with a function ``fill(module)``; imported when ``fullname`` is.
    """
    if not any(isinstance(finder, _FallbackFinder) and finder.fullname == fullname for finder in sys.meta_path):
        sys.meta_path.append(_FallbackFinder(fullname, source))


def when_imported(fullname: str, callback: Callable[[ModuleType], None]) -> None:
    """Run ``callback(module)`` right after ``fullname`` is executed, or now where that has already happened.

    It runs again after a reload, so it must be idempotent. An exception in it makes the import fail.

    Args:
        fullname: Dotted name of the module to wait for. It is never imported by this function.
        callback: Called with the executed module, before the import statement returns.
    """
    watcher = next((finder for finder in sys.meta_path if isinstance(finder, _ImportWatcher)), None)
    if watcher is None:
        watcher = _ImportWatcher()
        # First, because it has to see the spec that whichever finder comes next will answer with.
        sys.meta_path.insert(0, watcher)
    watcher.callbacks.setdefault(fullname, []).append(callback)
    if fullname in sys.modules:
        callback(sys.modules[fullname])


class _FallbackFinder(MetaPathFinder):
    def __init__(self, fullname: str, source: str) -> None:
        self.fullname = fullname
        self.source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.fullname:
            return None
        return ModuleSpec(fullname, _FallbackLoader(self.source), origin=self.source)


class _FallbackLoader(Loader):
    def __init__(self, source: str) -> None:
        self.source = source

    def exec_module(self, module: ModuleType) -> None:
        importlib.import_module(self.source).fill(module)


class _ImportWatcher(MetaPathFinder):
    def __init__(self) -> None:
        self.callbacks: dict[str, list[Callable[[ModuleType], None]]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.callbacks:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, 'find_spec'):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _NotifyingLoader(spec.loader, self.callbacks[fullname])
                return spec
        return None


class _NotifyingLoader(Loader):
    """Stands in for a module's loader until the module is executed, then puts the real one back."""

    def __init__(self, loader: Any, callbacks: list[Callable[[ModuleType], None]]) -> None:
        self.loader = loader
        self.callbacks = callbacks

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Readers of a module's source and resources look at these two; they should meet the loader Python knows.
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        for callback in tuple(self.callbacks):
            callback(module)
