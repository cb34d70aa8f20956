"""Classes of folders, lists and heads that do not agree: one sentence each."""

import pytest
from mmengine.config import Config

from mmlk.datasets.layout import require_data
from mmlk.errors import UsageError


@pytest.fixture
def config(tmp_path):
    """A config with three classes on a folder with three, and one picture in each."""
    for split in ('train', 'val'):
        for name in 'abc':
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            (folder / 'x.JPEG').touch()

    def build(**options) -> Config:
        cfg = Config(
            dict(
                model=dict(head=dict(num_classes=3)),
                data_preprocessor=dict(num_classes=3),
                train_dataloader=dict(dataset=dict(type='ImageNet', data_root=str(tmp_path), split='train')),
            )
        )
        cfg.merge_from_dict(options)
        return cfg

    return build


def problem(cfg: Config) -> str:
    with pytest.raises(UsageError) as caught:
        require_data(cfg, 'train_dataloader')
    return str(caught.value)


def test_classes_that_agree(config):
    require_data(config(), 'train_dataloader')
    other = dict(_delete_=True, type='ImageNet21k', data_root=config().train_dataloader.dataset.data_root)
    for prefix in ('val', dict(img_path='val')):
        require_data(config(**{'train_dataloader.dataset': dict(other, data_prefix=prefix)}), 'train_dataloader')


def test_a_folder_too_few(config, tmp_path):
    (tmp_path / 'train/b/x.JPEG').unlink()
    (tmp_path / 'train/b').rmdir()
    assert problem(config()) == (
        f'train_dataloader expects 3 class folders in {tmp_path}/train, found 2; complete the folder, or, for classes '
        'of your own, set the dataset type to CustomDataset and model.head.num_classes=2'
    )


def test_pictures_that_are_not_in_folders(config, tmp_path):
    flat = tmp_path / 'flat'
    flat.mkdir()
    (flat / 'ILSVRC2012_val_00000001.JPEG').touch()
    message = problem(config(**{'train_dataloader.dataset.data_prefix': 'flat'}))
    assert f'expects 3 class folders in {flat}, found only files; move each picture into the folder of its' in message


def test_head_and_preprocessor_disagree(config):
    message = problem(config(**{'model.head.num_classes': 4}))
    assert message == 'model.head.num_classes is 4 and data_preprocessor.num_classes 3; set both to the same'


@pytest.mark.parametrize(
    ('line', 'number'), [('a/x.JPEG 3', 2), ('a/x.JPEG', 2), ('a/x.JPEG -1', 2), ('', 2)], ids=repr
)
def test_list_with_a_class_that_is_none(config, tmp_path, line, number):
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text(f'a/x.JPEG 2\n{line}\nb/x.JPEG 0\n')
    message = problem(config())
    assert f'with classes 0 to 2 in {tmp_path}/meta/train.txt, found {line!r} in line {number}' in message


def test_list_that_fits_counts_more_than_folders(config, tmp_path):
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text('a/x.JPEG 2\n')
    require_data(config(**{'model.head.num_classes': 9, 'data_preprocessor.num_classes': 9}), 'train_dataloader')


def test_missing_folder_names_the_layout(config, tmp_path):
    message = problem(config(**{'train_dataloader.dataset.data_root': str(tmp_path / 'nowhere')}))
    assert 'train/<class>/*.JPEG and val/<class>/*.JPEG' in message and '--demo' in message


@pytest.mark.parametrize('inside', [False, True])
def test_a_list_that_is_a_pickle(config, tmp_path, inside):
    dataset = config(**{'train_dataloader.dataset.ann_file': 'lists/train.PKL'}).train_dataloader.dataset
    if inside:
        dataset = dict(type='ConcatDataset', datasets=[dataset])
    message = problem(Config(dict(train_dataloader=dict(dataset=dataset))))
    assert message == (
        'train_dataloader.dataset.ann_file expects a file of data, got the pickle lists/train.PKL, which can run code '
        'when it is read; write it as JSON'
    )
