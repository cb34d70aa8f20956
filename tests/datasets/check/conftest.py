"""Small generated data sets to damage."""

import shutil
from pathlib import Path

import pytest

from mmlk.datasets.check import check_data
from mmlk.datasets.demo.ade20k import generate_ade20k
from mmlk.datasets.demo.cityscapes import generate_cityscapes
from mmlk.datasets.demo.coco import generate_coco
from mmlk.datasets.demo.folder import STAMP
from mmlk.datasets.demo.imagenet import generate_imagenet

SMALL = {
    'ade20k': (generate_ade20k, dict(num_train=4, num_val=2, size=96)),
    'cityscapes': (generate_cityscapes, dict(num_train=4, num_val=2, size=96)),
    'coco': (generate_coco, dict(num_train=4, num_val=2, size=96)),
    'imagenet': (generate_imagenet, dict(num_train=16, num_val=8, size=48)),
}


class Data:
    """A copy of generated data that a test may damage.

    Attributes:
        name: As ``check_data`` takes it.
        root: Its folder.
    """

    def __init__(self, name: str, source: Path, target: Path) -> None:
        self.name = name
        self.root = target / source.name
        shutil.copytree(source, self.root)
        shutil.copy(source.parent / STAMP, target)

    def forget_that_it_is_generated(self) -> None:
        (self.root.parent / STAMP).unlink()

    def problems(self, sample: int | None = None) -> list[str]:
        """What is wrong, with paths relative to the root; every picture is read."""
        problems = check_data(self.name, self.root, sample).problems
        return [str(problem).replace(f'{self.root}/', '') for problem in problems]


@pytest.fixture(scope='session')
def generated(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('to_check')
    return {name: generate(root, progress=False, **sizes) for name, (generate, sizes) in SMALL.items()}


@pytest.fixture
def copy_of(generated, tmp_path):
    """Return a function that copies the generated data of a name."""
    return lambda name: Data(name, generated[name], tmp_path)
