"""What another library raised, in one sentence."""

from __future__ import annotations

import difflib
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from mmlk.errors import REGISTRY_PREFIX, UsageError

#: Characters of a message of another library that are printed; some hold a whole config.
LONGEST = 600

# DataLoader puts the traceback of a worker into the message, which ends with the type and the message there.
_WORKER_PREFIX = re.compile(r'^Caught \w+ in DataLoader worker process \d+\.\nOriginal Traceback', re.M)
_WORKER_END = re.compile(r'.*^[\w.]+: (.*)\Z', re.M | re.S)
_NOT_REGISTERED = re.compile(r'^(\S*) is not in the (\S+)::([\w ]+) registry\.')
_UNEXPECTED = re.compile(r"(?:(\w+)\.)?(\w+)\(\) got an unexpected keyword argument '(\w+)'")
# Some libraries put where an object lies in memory into messages, and whole configs: dictionaries longer than this.
LONGEST_DICTIONARY = 60
_ADDRESS = re.compile(r'<([\w.]+) object at 0x[0-9a-f]+>')
#: Packages whose classes configs name.
_NAMED_IN_CONFIGS = ('mmlk', 'mmseg', 'mmdet', 'mmpretrain', 'mmcv')


def sentence_of(error: BaseException) -> str:
    """The message of an error on one line, without what libraries wrap around it and with what helps to correct it.

    Our own sentences stay as they are. Of other errors, the class that was being built or run is named, a misspelt name
    gets the nearest known ones, and an error without a message shows the line of code that raised it.

    Args:
        error: What was raised.
    """
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = REGISTRY_PREFIX.sub('', _without_worker(text)).strip()
    # Names of files and keys may hold what moves the cursor of a terminal.
    text = ''.join(one if one.isprintable() or one in '\n\t' else repr(one)[1:-1] for one in text)
    if isinstance(error, UsageError):
        return text
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f'there is no file {error.filename}'
    if isinstance(error, SyntaxError):
        return f'{error.msg} in line {error.lineno}' if error.lineno else error.msg
    if isinstance(error, RecursionError):
        text = 'something contains itself, or is nested too deeply'
    text = _ADDRESS.sub(r'\1', ' '.join(text.split()))
    hint = _hint(error, text)
    if _NOT_REGISTERED.match(text):
        # What follows is an address and advice for those who write classes.
        text = text.partition('. Please')[0]
    if isinstance(error, KeyError) and ' ' not in text:
        text = f'there is no key {text or "of no name"!r}, which is needed'
    if not text:
        text = _line_of(error)
    text = _without_dumps(text)
    if len(text) > LONGEST:
        text = text[:LONGEST].rstrip() + ' ...'
    return f'{_doing(error)}{text}{hint}'


def _without_dumps(text: str) -> str:
    """A message without what is in its long dictionaries."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        if character == '{':
            start = start if depth else place
            depth += 1
        if not depth:
            parts.append(character)
        elif character == '}':
            depth -= 1
            group = text[start : place + 1]
            if not depth:
                parts.append(group if len(group) <= LONGEST_DICTIONARY else '{...}')
    return ''.join(parts) + (text[start:] if depth else '')


def _doing(error: BaseException) -> str:
    """``PeLK: `` for the innermost class of a config that was being built or run."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        built, running = frame.f_locals.get('obj_cls'), frame.f_locals.get('self')
        if frame.f_code.co_name.startswith('build') and inspect.isclass(built):
            return f'{built.__name__}: '
        if type(running).__module__.partition('.')[0] in _NAMED_IN_CONFIGS:
            return f'{type(running).__name__}: '
    return ''


def _without_worker(text: str) -> str:
    """The message as it was raised, of one that came through a worker of a DataLoader."""
    if not _WORKER_PREFIX.match(text):
        return text
    end = _WORKER_END.match(text)
    return end[1].strip() if end else text.strip().rpartition('\n')[2]


def _line_of(error: BaseException) -> str:
    """Where an error without a message was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return f'failed with {type(error).__name__}'
    frame = frames[-1]
    place = '/'.join(Path(frame.filename).parts[-3:])
    return f'`{(frame.line or "?").rstrip("(, ")}` failed in {place}, line {frame.lineno}'


def _hint(error: BaseException, text: str) -> str:
    """``; did you mean ...`` for the name of a class or of an argument that is not known."""
    unknown = _NOT_REGISTERED.match(text)
    if unknown:
        return _did_you_mean(unknown[1].rpartition('.')[2], _registered(unknown[3].replace(' ', '_'), unknown[2]))
    unexpected = _UNEXPECTED.search(text)
    if unexpected:
        return _did_you_mean(unexpected[3], {name: name for name in _arguments(error, unexpected[1])})
    return ''


def _did_you_mean(name: str, known: Mapping[str, str]) -> str:
    """The nearest of several names, each with how it is written."""
    # Case is the commonest mistake of all.
    lower = {one.lower(): written for one, written in known.items()}
    close = [lower[one] for one in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.7)]
    return f'; did you mean {" or ".join(close)}?' if close else ''


def _registered(kind: str, scope: str) -> dict[str, str]:
    """Names in MMEngine's registry of a kind and in all below it, with their scopes; of equal names that of a scope."""
    from mmengine import registry as registries

    known = [one for one in vars(registries).values() if isinstance(one, registries.Registry)]
    pending = [one for one in known if one.name.replace(' ', '_') == kind]
    names: dict[str, str] = {}
    while pending:
        registry = pending.pop()
        own = {name: f'{registry.scope}.{name}' for name in registry.module_dict}
        names = names | own if registry.scope == scope else own | names
        pending += registry.children.values()
    return names


def _arguments(error: BaseException, class_name: str | None) -> set[str]:
    """Arguments of the class that an unexpected one was given to, found in the frames of the error."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            # The constructor of a base class may be the one that complains.
            if inspect.isclass(value) and class_name in (None, *(base.__name__ for base in value.__mro__)):
                return set().union(*(_parameters(base.__init__) for base in value.__mro__ if '__init__' in vars(base)))
    return set()


def _parameters(function: Callable) -> set[str]:
    try:
        return {name for name in inspect.signature(function).parameters if name != 'self'}
    except (TypeError, ValueError):
        return set()
