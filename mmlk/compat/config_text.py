"""Config texts in checkpoints, which mmengine runs as Python.

``Runner.resume`` runs ``meta['config']``, and the inferencers, where they are given weights and no config, run
``message_hub['runtime_info']['cfg']`` or ``meta['cfg']``. A text that mmengine wrote itself assigns values to names;
such texts stay, all others are taken out of what was loaded.
"""

import ast
import warnings
from typing import Any

__all__ = ['drop_programs', 'is_plain']

#: Characters of a text that is looked at; those of whole configs have tens of thousands.
_LONGEST = 2**20
#: Packages that the ``custom_imports`` of a text may import.
_PACKAGES = ('mmlk', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')
_IMPORT_KEYS = ('imports', 'allow_failed_imports')
#: Functions by which mmengine's ``pretty_text`` writes containers and numbers.
_CONSTRUCTORS = ('dict', 'set', 'tuple', 'list', 'float')


def drop_programs(checkpoint: Any, source: str) -> None:
    """Take config texts that are not plain out of a checkpoint, with a warning, so that nothing can run them.

    Args:
        checkpoint: What was loaded, of any type; changed in place.
        source: Its file, for the warning.
    """
    if not isinstance(checkpoint, dict):
        return
    meta, hub = checkpoint.get('meta'), checkpoint.get('message_hub')
    information = hub.get('runtime_info') if isinstance(hub, dict) else None
    dropped = []
    for where, holder, key in (
        ('meta', meta, 'config'),
        ('meta', meta, 'cfg'),
        ('message_hub.runtime_info', information, 'cfg'),
    ):
        if isinstance(holder, dict) and isinstance(holder.get(key), (str, bytes)) and not is_plain(holder[key]):
            del holder[key]
            dropped.append(f'{where}.{key}')
    if dropped:
        warnings.warn(
            f'{source} was loaded without {", ".join(dropped)}: a config with more than values, which mmengine would '
            'run as Python',
            stacklevel=3,
        )


def is_plain(text: str | bytes) -> bool:
    """Whether a config text only assigns literals, reads no other config, and imports OpenMMLab packages at most.

    Example:
        >>> is_plain("model = dict(type='PeLK', depths=[3, 3])")
        True
        >>> is_plain('import os')
        False
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        return False
    try:
        with warnings.catch_warnings():
            # Of escapes in strings, which are none of ours.
            warnings.simplefilter('ignore')
            statements = ast.parse(text).body
        return all(map(_is_plain_statement, statements))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_plain_statement(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        # The text at the head of a file.
        return isinstance(statement.value, ast.Constant)
    if not isinstance(statement, ast.Assign) or not all(isinstance(name, ast.Name) for name in statement.targets):
        return False
    names = {name.id for name in statement.targets}
    if '_base_' in names or names & {*_CONSTRUCTORS}:
        return False
    return _is_literal(statement.value) and ('custom_imports' not in names or _imports_known(statement.value))


def _is_literal(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return all(map(_is_literal, items))
        case ast.Dict(keys=keys, values=values):
            return all(key is not None and _is_literal(key) for key in keys) and all(map(_is_literal, values))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _is_literal(operand)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            # Complex numbers.
            return (
                isinstance(left, (ast.Constant, ast.UnaryOp)) and _is_literal(left) and isinstance(right, ast.Constant)
            )
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            values = [*arguments, *(keyword.value for keyword in keywords if keyword.arg is not None)]
            named = all(keyword.arg is not None for keyword in keywords)
            return name in _CONSTRUCTORS and named and all(map(_is_literal, values))
    return False


def _imports_known(node: ast.expr) -> bool:
    """Whether every string in ``custom_imports`` is a module of a known package."""
    names = [leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)]
    return all(name in _IMPORT_KEYS or name.partition('.')[0] in _PACKAGES for name in names)
