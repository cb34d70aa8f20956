"""Damaged ImageNet-shaped data, in class folders and in lists."""

import shutil

import pytest
from mmpretrain.datasets import ImageNet

from mmlk.datasets.check import check_data, expected
from mmlk.datasets.check.imagenet import ENDS

KEEP = 'classes are numbered in the order of their folders'


@pytest.fixture
def data(copy_of):
    """Read by the lists that generated data has."""
    return copy_of('imagenet')


@pytest.fixture
def folders(data):
    """Read by its 8 class folders."""
    shutil.rmtree(data.root / 'meta')
    return data


def test_folders_are_as_good_as_lists(folders):
    assert folders.problems() == []


def test_pictures_are_what_mmpretrain_takes():
    assert set(ENDS) == set(ImageNet.IMG_EXTENSIONS)


def test_validation_pictures_in_one_folder(folders):
    val = folders.root / 'val'
    for picture in list(val.rglob('*.JPEG')):
        picture.rename(val / picture.name)
    for folder in list(val.iterdir()):
        if folder.is_dir():
            folder.rmdir()
    (problem,) = folders.problems()
    assert problem == (
        'val: 8 pictures in one folder instead of one per class; move the folder away, put ILSVRC2012_img_val.tar and '
        f"ILSVRC2012_devkit_t12.tar.gz into {folders.root} and type: python -c 'from torchvision.datasets import "
        f'ImageNet; ImageNet("{folders.root}", "val")\''
    )


def test_that_command_names_the_archives_of_torchvision():
    from torchvision.datasets import imagenet

    train, val = expected.EXPECTED['imagenet'].splits
    archives = {split: name for split, (name, _) in imagenet.ARCHIVE_META.items()}
    assert archives == {'train': train.archives[0], 'val': val.archives[0], 'devkit': val.archives[1]}


def test_class_folder_missing_in_one_split(folders):
    shutil.rmtree(folders.root / 'val/n02708093')
    count, classes, other = folders.problems()
    assert count.startswith('val: 7 pictures instead of 8')
    assert classes == f'val: 7 class folders instead of 8; unpack ILSVRC2012_img_val.tar again: {KEEP}'
    assert other.startswith('train: 1 class folder that val does not have: n02708093; make both the same')


def test_class_folder_too_many_and_empty(folders):
    (folders.root / 'train/n99999999').mkdir()
    classes, empty, other = folders.problems()
    assert classes.startswith('train: 9 class folders instead of 8; remove those that are none') and KEEP in classes
    assert empty.startswith('train: 1 class folder without pictures: n99999999')
    assert other.startswith('train: 1 class folder that val does not have: n99999999')


def test_picture_beside_the_folders(folders):
    picture = next((folders.root / 'train').rglob('*.JPEG'))
    picture.rename(folders.root / 'train' / picture.name)
    (problem,) = folders.problems()
    assert (
        problem == f'train: 1 picture beside the class folders: {picture.name}; move each into the folder of its class'
    )


def test_archives_that_are_not_unpacked(folders):
    for folder in list((folders.root / 'train').iterdir()):
        shutil.rmtree(folder)
        folder.with_suffix('.tar').touch()
    archives, *_ = folders.problems()
    assert archives.startswith('train: 8 archives not unpacked: n02708093.tar, ')
    assert 'torchvision.datasets' in archives


def test_other_files(folders):
    picture = next((folders.root / 'train/n02708093').iterdir())
    picture.rename(picture.with_suffix('.webp'))
    first, second = folders.problems()
    assert first.startswith('train: 1 file other than *.JPEG: n02708093/') and 'passed over without a word' in first
    assert second.startswith('train: 15 pictures instead of 16')


def test_broken_picture(data):
    picture = data.root / 'val/n02708093/ILSVRC2012_val_00000001.JPEG'
    picture.write_bytes(picture.read_bytes()[:-300])
    (problem,) = data.problems()
    assert problem.startswith('val: 1 picture that cannot be read: n02708093/ILSVRC2012_val_00000001.JPEG (')


@pytest.mark.parametrize('line', ['n02708093/x.JPEG', 'n02708093/x.JPEG 1000', 'n02708093/x.JPEG -1', ''], ids=repr)
def test_line_that_is_none(data, line):
    path = data.root / 'meta/val.txt'
    path.write_text(path.read_text() + f'{line}\n')
    (problem,) = data.problems()
    assert problem.startswith(f'meta/val.txt: 1 line not such as "n01440764/n01440764_18.JPEG 0": line 9, {line!r}; ')
    assert 'a class from 0 to 999' in problem


def test_list_and_folder_disagree(data):
    path = data.root / 'meta/val.txt'
    first, second, *rest = path.read_text().splitlines()
    path.write_text('\n'.join(['n02708093/gone.JPEG 409', second, second, *rest]) + '\n')
    twice, missing, unlisted = data.problems()
    assert twice.startswith(f'meta/val.txt: 1 picture listed twice: {second.split()[0]}; ')
    assert missing.startswith('val: 1 picture that val.txt lists, but the folder does not hold: n02708093/gone.JPEG; ')
    assert unlisted.startswith(f'val: 1 picture that val.txt does not list: {first.split()[0]}; ')


def test_list_with_a_class_too_few(data):
    path = data.root / 'meta/val.txt'
    path.write_text(path.read_text().replace(' 409', ' 417'))
    assert data.problems() == [
        'meta/val.txt: pictures of 7 classes instead of 8; complete the list, or remove meta/val.txt: '
        'without it the class folders are read'
    ]


def test_real_imagenet_has_a_thousand_folders(folders):
    folders.forget_that_it_is_generated()
    problems = [str(problem) for problem in check_data('imagenet', folders.root).problems]
    assert (
        f'{folders.root}/val: 8 class folders instead of 1000; unpack ILSVRC2012_img_val.tar again: {KEEP}' in problems
    )
