"""How much memory one image needs, before it is tried."""

from __future__ import annotations

import copy
import os
import resource
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from mmlk.analysis.erf.features import FeatureMaps
from mmlk.analysis.erf.matrix import observed
from mmlk.analysis.erf.recompute import around_blocks

#: What the backward pass and the convolutions work in, as multiples of the largest tensor that is stored; with and
#: without recomputing, and what libraries allocate once. Measured with eight networks of 512 and 1024 pixels on the
#: CPU: the estimate is between 15 % too small and twice too large, of small images more.
WORKING_TENSORS = {False: 4, True: 8}
WORKING_BYTES = 2**28

#: Edge of the trial where a network does not run without storage.
TRIAL_EDGE = 256


def estimate_bytes(network: nn.Module, size: tuple[int, int], recompute: bool = False) -> int | None:
    """Bytes that one image needs beyond the network: what the layers store for the gradient, and working memory.

    The network runs on the meta device, without storage or arithmetic. Where it cannot, it runs on its own device with
    edges of at most 256 pixels, and the result is scaled by the number of pixels.

    Args:
        network: The network; it stays as it is.
        size: (H, W) of the image in pixels.
        recompute: As for :func:`effective_receptive_fields`.

    Returns:
        An estimate; ``None`` where the network runs in neither way.
    """
    # Parameters without storage in the copy: the network itself may be large.
    kept = {}
    for tensor in (*network.parameters(), *network.buffers()):
        empty = tensor.detach().to('meta')
        kept[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    try:
        return WORKING_BYTES + _needed(copy.deepcopy(network, kept), size, torch.device('meta'), recompute)
    except Exception:  # noqa: BLE001 - any network of anyone; the trial below tells what is wrong
        pass
    factor = max(1.0, max(size) / TRIAL_EDGE)
    trial = tuple(max(1, round(edge / factor)) for edge in size)
    device = next((parameter.device for parameter in network.parameters()), torch.device('cpu'))
    try:
        needed = _needed(network, trial, device, recompute)
    except Exception:  # noqa: BLE001 - networks of a fixed input size, for instance
        return None
    return WORKING_BYTES + round(needed * size[0] * size[1] / (trial[0] * trial[1]))


def free_bytes(device: torch.device | str = 'cpu') -> int | None:
    """Bytes that can still be had: of the GPU, or the smallest of what machine, container and process limits leave.

    ``None`` where the system does not tell.
    """
    device = torch.device(device)
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limits = [_machine(), _container(), _process()]
    return min((limit for limit in limits if limit is not None), default=None)


class _Stored:
    """The storages kept for a gradient, each counted once.

    Args:
        network: Whose own tensors do not count.
    """

    def __init__(self, network: nn.Module) -> None:
        self.own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
        # The storages themselves, so that no later one gets the identity of one that is gone.
        self.storages: dict[int, torch.UntypedStorage] = {}

    def keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own:
            self.storages[storage._cdata] = storage
        return tensor

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self.keep, lambda tensor: tensor)

    def sizes(self) -> list[int]:
        return [storage.nbytes() for storage in self.storages.values()]


def _needed(network: nn.Module, size: tuple[int, int], device: torch.device, recompute: bool) -> int:
    stored = _Stored(network)
    blocks: list[list[int]] = []

    def around(forward, *inputs):
        """As a block that is computed again: only its inputs stay, its inside is there once at a time."""
        for tensor in inputs:
            if isinstance(tensor, Tensor):
                stored.keep(tensor)
        inside = _Stored(network)
        with inside.hooks():
            output = forward(*inputs)
        blocks.append(inside.sizes())
        return output

    context = around_blocks(network, around) if recompute else nullcontext()
    with observed(network), stored.hooks(), context:
        image = torch.zeros(1, 3, *size, device=device, requires_grad=True)
        maps = FeatureMaps(network)(image)
        for found in (*maps, image):
            stored.keep(found)
    sizes = stored.sizes()
    largest = max(max(found, default=0) for found in (sizes, *blocks))
    inside = max((sum(found) for found in blocks), default=0)
    return sum(sizes) + inside + WORKING_TENSORS[recompute] * largest


def _machine() -> int | None:
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith('MemAvailable:')), None)


def _container() -> int | None:
    """What the control group leaves, version 2 or 1; pages of files it can drop are counted as free."""
    for folder, limit, used in (
        ('/sys/fs/cgroup', 'memory.max', 'memory.current'),
        ('/sys/fs/cgroup/memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes'),
    ):
        try:
            text = [(Path(folder) / name).read_text().strip() for name in (limit, used)]
            statistics = dict(line.split() for line in (Path(folder) / 'memory.stat').read_text().splitlines())
        except (OSError, ValueError):
            continue
        if text[0].isdecimal():
            return int(text[0]) - int(text[1]) + int(statistics.get('inactive_file', 0))
    return None


def _process() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return None
    return limit - pages * os.sysconf('SC_PAGE_SIZE')
