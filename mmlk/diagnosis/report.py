"""The whole examination: facts, findings, and both as text or data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmlk.compat import families
from mmlk.diagnosis import packages
from mmlk.diagnosis.facts import Facts, Finding
from mmlk.diagnosis.machine import examine
from mmlk.diagnosis.probes import Step, run_steps
from mmlk.diagnosis.rules import judge
from mmlk.diagnosis.worker import STEPS
from mmlk.version import __version__

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Report:
    """What was found out, and what to make of it.

    Attributes:
        facts: Versions, machine, results of the steps.
        findings: Problems first.
        configs: Where the configs of mmlk lie, and how many there are.
    """

    facts: Facts
    findings: list[Finding]
    configs: tuple[str, int]

    @property
    def problems(self) -> list[Finding]:
        """The findings because of which something fails."""
        return [finding for finding in self.findings if finding.problem]


def diagnose(
    steps: Sequence[str] = tuple(STEPS), advance: Callable[[str], object] = lambda name: None, **options: Any
) -> Report:
    """Examine the environment of the running Python.

    Args:
        steps: What to import, in processes of their own.
        advance: Called with the name of a step when its process begins.
        **options: For :func:`mmlk.diagnosis.probes.run_steps`.
    """
    facts = Facts(
        python=sys.version_info[:2],
        versions=packages.installed(),
        family=families.detect(),
        machine=examine(),
        steps=run_steps(steps, advance=advance, **options),
    )
    return Report(facts, judge(facts), find_configs())


def find_configs(package: Path = PACKAGE) -> tuple[str, int]:
    """Folder of the configs, in the installed package or the checkout, and how many there are; none is ('', 0)."""
    for folder in (package / '.mim' / 'configs', package.parent / 'configs'):
        count = sum('_base_' not in path.parts for path in folder.glob('*/*.py')) if folder.is_dir() else 0
        if count:
            return str(folder), count
    return '', 0


def to_dict(report: Report) -> dict[str, Any]:
    """Everything, as data that JSON has."""
    facts = report.facts
    return {
        'mmlk': __version__,
        'healthy': not report.problems,
        'problems': [{'what': finding.what, 'cure': finding.cure} for finding in report.problems],
        'notes': [{'what': finding.what, 'cure': finding.cure} for finding in report.findings if not finding.problem],
        'python': {'version': sys.version.split()[0], 'executable': sys.executable},
        'machine': asdict(facts.machine),
        'family': asdict(facts.family),
        'distributions': facts.versions,
        'steps': {name: asdict(step) for name, step in facts.steps.items()},
        'configs': {'folder': report.configs[0], 'number': report.configs[1]},
    }


def to_lines(report: Report) -> list[str]:
    """Everything, in sections of lines."""
    lines = []
    for title, rows in (
        ('system', _system(report)),
        ('packages', _packages(report)),
        ('imports', _imports(report)),
        ('operators', _operators(report)),
        ('environment variables', report.facts.machine.variables.items()),
    ):
        rows = list(rows)
        if rows:
            width = max(len(name) for name, _ in rows)
            lines += [title, *(f'  {name:<{width}}  {text}'.rstrip() for name, text in rows), '']
    for word, problem in (('problem', True), ('note', False)):
        for finding in report.findings:
            if finding.problem is problem:
                lines.append(f'{word}: {finding.what}')
                if finding.cure:
                    lines.append(f'  cure: {finding.cure}' if problem else f'  if it matters: {finding.cure}')
    count = len(report.problems)
    lines.append('')
    lines.append('healthy: no problems' if not count else f'{count} problem{"s" * (count > 1)}')
    return lines


def _system(report: Report) -> Iterator[tuple[str, str]]:
    machine = report.facts.machine
    yield 'mmlk', f'{__version__}, {PACKAGE}'
    yield 'configs', f'{report.configs[1]} in {report.configs[0]}' if report.configs[1] else 'none found'
    yield 'Python', f'{sys.version.split()[0]}, {sys.executable}'
    yield 'system', ', '.join(filter(None, (machine.system, machine.libc)))
    yield 'processors', f'{machine.usable_cores:g} usable of {machine.cores}'
    if machine.memory_gib:
        yield 'memory', '{:g} GiB free of {:g}'.format(*machine.memory_gib)
    yield 'disk', ', '.join(f'{free:g} GiB free in {folder}' for folder, free in machine.disk_gib.items())
    if machine.shm_gib is not None:
        yield '/dev/shm', f'{machine.shm_gib:g} GiB free'
    yield 'GPU driver', _driver(machine.driver)
    yield 'compilers', ', '.join(f'{name}: {path or "none"}' for name, path in machine.compilers.items())


def _driver(driver: dict | None) -> str:
    if driver is None:
        return 'none (nvidia-smi was not found)'
    if driver.get('error'):
        return driver['error']
    return f'{driver["version"]}, up to CUDA {driver["cuda"]}, {", ".join(driver["gpus"]) or "no GPU"}'


def _packages(report: Report) -> Iterator[tuple[str, str]]:
    facts = report.facts
    yield 'family', facts.family.name
    for line in families.describe(
        families.Family(facts.family.name, facts.family.packages, facts.family.compiled_ops, ())
    ):
        name, _, text = line.partition(': ')
        yield name, text
    found = [name for name in packages.OPENCV if name in facts.versions]
    for name in (*packages.SHOWN, *(found or packages.OPENCV[:1])):
        yield name, facts.versions.get(name, 'not installed')


def _imports(report: Report) -> Iterator[tuple[str, str]]:
    for name, step in report.facts.steps.items():
        if name != 'ops':
            yield name, _outcome(step)


def _outcome(step: Step) -> str:
    if not step.ok:
        if step.missing == step.name:
            return 'not installed'
        return f'needs {step.missing}, not installed' if step.missing else f'FAILS: {step.error}'
    facts, text = step.facts, step.facts.get('version', 'works')
    if step.name == 'torch':
        build = f'CUDA {facts["cuda_build"]}' if facts['cuda_build'] else 'no CUDA'
        gpus = ', '.join(gpu['name'] for gpu in facts['gpus']) or 'none'
        text += f', {build}, GPU: {gpus}, {facts["threads"]} threads, {facts["cpu_capability"]}'
    elif step.name == 'mmcv':
        text += ', compiled operators' if facts['compiled'] else ', fallback operators of mmlk'
    elif step.name == 'mmlk':
        text += f', {len(facts["registered"])} networks and layers registered'
    return f'{text} ({step.seconds:.1f} s)'


def _operators(report: Report) -> Iterator[tuple[str, str]]:
    step = report.facts.steps.get('ops')
    if step is None:
        return
    if not step.ok:
        yield 'all', _outcome(step)
        return
    for backend in step.facts['backends']:
        state = backend['reason'] and f'cannot run: {backend["reason"]}'
        yield (
            f'{backend["op"]}, {backend["device"]}, {backend["name"]}',
            state or ('runs, chosen for a small example' if backend['chosen'] else 'runs'),
        )
    for device, error in step.facts['error'].items():
        yield f'error against float64, {device}', f'{error:.1e}'
