"""tools/visualize_erf.py from the command line, on tiny networks."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from tool_runner import run_tool

from mmlk.cli.backbones import backbone_of_config, backbone_of_timm, pair_with_checkpoints
from mmlk.errors import UsageError

CONFIG = 'configs/imagenet/pelk_t.py'
TINY = (
    '--cfg-options',
    'model.backbone.depths=(1,1,1,1)',
    'model.backbone.width_factor=0.0834',
    'model.backbone.kernel_size=(9,9,7,7)',
    'model.backbone.layer_scale_init_value=1.0',
)
OPTIONS = {
    'model.backbone.depths': (1, 1, 1, 1),
    'model.backbone.width_factor': 0.0834,
    'model.backbone.kernel_size': (9, 9, 7, 7),
}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, repository):
    monkeypatch.chdir(repository)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 255, (20, 30, 3), np.uint8)
        Image.fromarray(noise).save(folder / f'{index}.png')
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    """A classifier whose weights stand for trained ones: larger than the random ones of the tool."""
    torch.manual_seed(1)
    network = backbone_of_config(CONFIG, options=OPTIONS).network
    weights = {f'backbone.{name}': 3 * value for name, value in network.state_dict().items()}
    path = tmp_path / 'trained.pth'
    torch.save({'state_dict': weights | {'head.fc.weight': torch.zeros(2, 64)}}, path)
    return path


def test_several_networks(tmp_path, pictures, checkpoint):
    out = tmp_path / 'new' / 'erf.png'
    arguments = (CONFIG, checkpoint, CONFIG, '--timm', 'resnet10t', '--images', pictures, '--num-images', 3)
    result = run_tool('visualize_erf.py', *arguments, '--size', 64, 96, '--out', out, *TINY)
    assert result.code == 0, result.err
    assert cv2.imread(str(out)).shape[0] > 300
    results = json.loads(out.with_suffix('.json').read_text())
    # As many images as asked for, although the folder holds no more.
    assert (results['images']['asked'], results['images']['used'], len(results['images']['files'])) == (3, 3, 3)
    assert (results['size'], results['square_centre'], results['scale']) == ([64, 96], [32, 48], 'log')
    models = results['models']
    assert [model['name'] for model in models] == ['pelk_t', 'pelk_t (2)', 'resnet10t']
    assert [model['trained'] for model in models] == [True, False, False]
    assert [model['weights'] for model in models][1:] == ['random weights'] * 2
    assert models[0]['weights'].endswith('/trained.pth')
    (stage,) = models[0]['stages']
    assert (stage['stage'], stage['map_size'], stage['unit'], stage['unit_centre']) == (3, [2, 3], [1, 1], [47.5, 47.5])
    assert [area['threshold'] for area in stage['areas']] == [0.2, 0.3, 0.5, 0.99]
    trained, random, _ = (np.load(out.with_name(model['stages'][0]['matrix'])) for model in models)
    assert trained.shape == random.shape == (64, 96)
    assert np.abs(trained / trained.max() - random / random.max()).max() > 0.1
    # The table, the memory and the warnings; nothing half-written.
    for text in ('t = 99 %', 'GiB', 'pelk_t (2) has random weights', '3 images of 64 x 96'):
        assert text in result.out
    assert len(list(out.parent.iterdir())) == 5


def test_every_stage_with_generated_scenes(tmp_path):
    out = tmp_path / 'erf.png'
    arguments = (CONFIG, '--per-stage', '--num-images', 1, '--size', 64, '--thresholds', 50, '--scale', 'linear')
    result = run_tool('visualize_erf.py', *arguments, '--out', out, '--form', 'train', *TINY)
    assert result.code == 0, result.err
    assert 'no data set of a config on disk: generated scenes are used' in result.out
    results = json.loads(out.with_suffix('.json').read_text())
    assert results['images'] == {'source': 'generated scenes', 'asked': 1, 'used': 1, 'files': []}
    stages = results['models'][0]['stages']
    assert [stage['matrix'] for stage in stages] == [f'erf_stage{index}.npy' for index in range(4)]
    ratios = [stage['areas'][0]['ratio'] for stage in stages]
    assert ratios == sorted(ratios)
    assert 0 < ratios[0] < ratios[3] <= 1


class TestBadInput:
    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            ((), 'expected a CONFIG or --timm NAME, got neither; see --help'),
            ((CONFIG, '--out', 'erf.jpg'), '--out must be a file ending in .png, got erf.jpg'),
            (('missing.pth',), 'expected a config before the checkpoint missing.pth, found none'),
            ((CONFIG, 'missing.pth'), 'expected a checkpoint file, found none at missing.pth; correct the path'),
            ((CONFIG, '--images', 'nowhere', *TINY), 'expected a folder of pictures, found none at nowhere'),
            ((CONFIG, '--stage', '4', '--size', '64', '--num-images', '1', *TINY), 'stage must be between -4 and 3'),
            (('--timm', 'resnet10tt'), 'expected a network of timm, got resnet10tt; did you mean'),
        ],
    )
    def test_one_sentence(self, tmp_path, arguments, message):
        out = () if '--out' in arguments else ('--out', tmp_path / 'a.png')
        assert message in run_tool('visualize_erf.py', *arguments, *out).error
        assert not list(tmp_path.iterdir())

    def test_more_than_there_is_memory(self, monkeypatch, tmp_path):
        import mmlk.cli.visualize_erf as cli

        monkeypatch.setattr(cli, 'free_bytes', lambda device: 2**30)
        error = run_tool('visualize_erf.py', CONFIG, '--size', 8192, '--out', tmp_path / 'a.png', *TINY).error
        assert 'GiB for an image of 8192 x 8192, of 1.0 GiB that are free; give --size' in error

    def test_percentages(self):
        result = run_tool('visualize_erf.py', CONFIG, '--thresholds', '100')
        assert result.code == 2
        assert 'must be percentages below 100, got 100' in result.err


class TestBackbones:
    def test_pairs(self, tmp_path):
        weights = tmp_path / 'a.pth'
        weights.touch()
        assert pair_with_checkpoints(['a.py', 'b.py', str(weights)]) == [('a.py', None), ('b.py', str(weights))]
        with pytest.raises(UsageError, match='expected a config before the checkpoint'):
            pair_with_checkpoints(['a.py', str(weights), str(weights)])

    def test_another_network(self, checkpoint):
        with pytest.raises(UsageError, match='does not fit PeLK'):
            backbone_of_config(CONFIG, str(checkpoint), dict(OPTIONS, **{'model.backbone.width_factor': 0.2}))

    @pytest.mark.parametrize('to_rgb', [True, False])
    def test_normalisation_of_the_config(self, to_rgb):
        settings = {'data_preprocessor.mean': [1, 2, 3], 'data_preprocessor.std': [4, 5, 6]}
        backbone = backbone_of_config(CONFIG, options=OPTIONS | settings | {'data_preprocessor.to_rgb': to_rgb})
        assert (backbone.mean, backbone.std, backbone.bgr) == ((1, 2, 3), (4, 5, 6), not to_rgb)

    def test_fused_model(self, tmp_path):
        """What tools/reparam.py writes where the backbone alone does not say that it is fused."""
        from mmengine.config import Config

        cfg = Config.fromfile(CONFIG)
        cfg.merge_from_dict(OPTIONS)
        cfg.model = dict(cfg.model, type='mmlk.FusedModel', network=cfg.model.type, deep=True)
        cfg.model.head.in_channels = 64
        init_default_scope('mmpretrain')
        model = MODELS.build(cfg.model)
        torch.save(model.state_dict(), tmp_path / 'fused.pth')
        cfg.dump(tmp_path / 'fused.py')
        network = backbone_of_config(str(tmp_path / 'fused.py'), str(tmp_path / 'fused.pth')).network
        assert {name for name, _ in network.named_parameters()} == {
            name for name, _ in model.backbone.named_parameters()
        }

    def test_file_for_timm(self, tmp_path):
        network = backbone_of_timm('test_efficientnet').network
        import timm

        whole = timm.create_model('test_efficientnet')
        torch.nn.init.constant_(whole.conv_stem.weight, 0.5)
        torch.save(whole.state_dict(), tmp_path / 'w.pth')
        loaded = backbone_of_timm(f'test_efficientnet={tmp_path / "w.pth"}')
        assert (loaded.network.conv_stem.weight == 0.5).all()
        assert not (network.conv_stem.weight == 0.5).all()
        assert (loaded.weights, loaded.trained) == ('w.pth', True)
