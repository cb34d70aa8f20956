"""What of the machine and its settings is in the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mmlk.diagnosis import machine as machine_module
from mmlk.diagnosis.facts import Facts, Finding

#: Below these amounts (GiB) training fails sooner or later.
LITTLE_DISK, LITTLE_MEMORY, LITTLE_SHM = 1.0, 2.0, 0.25


def gpu(facts: Facts) -> Iterator[Finding]:
    """A GPU that torch cannot use."""
    driver, step = facts.machine.driver, facts.steps.get('torch')
    if step is None or not step.ok:
        return
    torch = step.facts
    hidden = facts.machine.variables.get('CUDA_VISIBLE_DEVICES')
    if driver is None or not driver.get('gpus'):
        if driver is not None and driver.get('error'):
            yield Finding(True, f'nvidia-smi fails: {driver["error"]}', 'repair or restart the NVIDIA driver')
    elif not torch['cuda_available']:
        names = ', '.join(driver['gpus'])
        if hidden is not None and (not hidden or hidden.startswith('-')):
            yield Finding(False, f'CUDA_VISIBLE_DEVICES={hidden!r} hides the GPUs ({names})', 'unset it to use them')
        elif torch['cuda_build'] is None:
            yield Finding(
                True, f'torch {torch["version"]} is built without CUDA, and there is a GPU ({names})',
                'install torch and torchvision with CUDA, both from one source',
            )  # fmt: skip
        else:
            yield Finding(
                True,
                f'torch is built for CUDA {torch["cuda_build"]} and cannot use the GPU ({names}); the driver '
                f'{driver["version"]} runs CUDA up to {driver["cuda"]}',
                f'update the driver, or install torch built for CUDA {driver["cuda"]} or older',
            )
    for device in torch['gpus']:
        capability = '{}.{}'.format(*device['capability'])
        if not _has_code(device['capability'], torch.get('arch_list') or []):
            yield Finding(
                True,
                f'torch {torch["version"]} has no code for {device["name"]} (compute capability {capability})',
                'install a torch built for it',
            )
        elif device['capability'] < [8, 0]:
            yield Finding(
                False,
                f'{device["name"]} has compute capability {capability}: the Triton kernels need 8.0, PyTorch runs',
            )
    if torch.get('gpu_works') is False:
        yield Finding(True, 'the GPU computes wrongly', 'check the hardware and the driver')


def compiler(facts: Facts) -> Iterator[Finding]:
    """``torch.compile`` on the CPU needs a C++ compiler, Triton a C one; both need Python's headers."""
    lacking = [f'no {name} compiler' for name, path in facts.machine.compilers.items() if path is None]
    if not facts.machine.headers:
        lacking.append('no headers of Python')
    if lacking and facts.works('torch'):
        yield Finding(
            False,
            f'torch.compile and the Triton kernels compile code, and here is {" and ".join(lacking)}',
            'on Debian: apt install build-essential python3-dev',
        )


def threads(facts: Facts) -> Iterator[Finding]:
    """More threads than processors are slower than one."""
    machine = facts.machine
    usable = max(1, int(machine.usable_cores))
    step = facts.steps.get('torch')
    count = step.facts.get('threads') if step and step.ok else None
    if count and count > usable:
        yield Finding(
            False,
            f'torch uses {count} threads on {machine.usable_cores:g} usable of {machine.cores} processors',
            f'export OMP_NUM_THREADS={usable}',
        )


def room(facts: Facts) -> Iterator[Finding]:
    """Disk, memory, shared memory."""
    for folder, free in facts.machine.disk_gib.items():
        if free < LITTLE_DISK:
            yield Finding(True, f'{folder} has {free:g} GiB left: checkpoints will not fit', 'free some space')
    if facts.machine.memory_gib and facts.machine.memory_gib[0] < LITTLE_MEMORY:
        yield Finding(
            False, f'{facts.machine.memory_gib[0]:g} GiB of memory are free', 'take a smaller batch and fewer workers'
        )
    shm = facts.machine.shm_gib
    if shm is not None and shm < LITTLE_SHM:
        yield Finding(
            False,
            f'/dev/shm has {shm:g} GiB free: workers of a data loader may die with a bus error',
            'start the container with --shm-size=2g, or set train_dataloader.num_workers=0 '
            'train_dataloader.persistent_workers=False',
        )


def surroundings(facts: Facts) -> Iterator[Finding]:
    """Settings that surprise."""
    variables = facts.machine.variables
    other = machine_module.in_another_environment()
    if other:
        yield Finding(
            False, f'{other} is activated, but this is {sys.executable}', 'run `python`, not a path to another one'
        )
    if variables.get('TRITON_INTERPRET') == '1':
        yield Finding(False, "TRITON_INTERPRET=1 runs Triton's kernels in its interpreter, for tests only", 'unset it')
    if variables.get('PYTHONPATH'):
        yield Finding(
            False, f'PYTHONPATH={variables["PYTHONPATH"]}: what lies there comes before what is installed', 'unset it'
        )


def _has_code(capability: list[int], arch_list: list[str]) -> bool:
    """Whether a build of torch has code for a GPU: that of its own generation, or PTX of an older one."""
    if not arch_list:
        return True
    for name in arch_list:
        kind, _, digits = name.partition('_')
        digits = ''.join(character for character in digits if character.isdigit())
        if len(digits) < 2:
            continue
        major, minor = int(digits[:-1]), int(digits[-1])
        if kind == 'compute' and [major, minor] <= capability:
            return True
        if kind == 'sm' and major == capability[0] and minor <= capability[1]:
            return True
    return False
