"""tools/table.py: what it prints, what it reads, what it says to bad input; docs/model_zoo.md is up to date."""

import json
import re

import pytest
from mmengine.config import Config
from tool_runner import run_tool

from mmlk.analysis.complexity import Complexity
from mmlk.analysis.tables import ROWS, compare
from mmlk.cli.measured import find_measured
from mmlk.cli.model_zoo import make_page
from mmlk.cli.op_table import make_op_grid, read_runs
from mmlk.cli.tables import Line
from mmlk.errors import UsageError

PELK_T = 'configs/imagenet/pelk_t.py'


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip(' │|').split('│' if '│' in line else ' | ')]


class TestOutput:
    @pytest.fixture(scope='class')
    @staticmethod
    def result(tmp_path_factory):
        path = tmp_path_factory.mktemp('table') / 'figures.json'
        return run_tool('table.py', PELK_T, '--json', path), path

    def test_one_line_per_row(self, result):
        result, _ = result
        assert result.code == 0, result.err
        (line,) = [line for line in result.out.splitlines() if 'pelk_t ' in line]
        published = ['pelk_t', 'PeLK-T', '82.6', '29', '28.7', '-1.0 %', '5.6', '5.83', '+4.0 % (1)']
        assert cells(line) == [*published, 'arXiv 2403.07589, Table 4']
        assert '(1) the weights left after training are counted' in result.out
        assert 'measured' not in result.out

    def test_json_holds_all_of_it(self, result):
        result, path = result
        (row,) = json.loads(path.read_text())
        assert (row['config'], row['metrics']) == (PELK_T, {'top-1': 82.6})
        assert row['published'] == {'params': 29.0, 'flops': 5.6}
        assert row['ours']['params'] == pytest.approx(28.696, abs=1e-3)
        assert row['difference']['flops'] == pytest.approx(row['ours']['flops'] / 5.6 - 1)
        assert row['explained'] == {'params': True, 'flops': True}
        assert row['measured'] is None
        assert not list(path.parent.glob('*.part'))

    def test_markdown(self):
        result = run_tool('table.py', '--markdown', PELK_T)
        assert result.code == 0, result.err
        assert result.out.startswith('## ImageNet-1K\n\n| config | network | top-1 | params (M), published |')
        assert '| [pelk_t](../configs/imagenet/pelk_t.py) | PeLK-T | 82.6 | 29 | 28.7 |' in result.out

    def test_op_needs_no_network(self):
        result = run_tool('table.py', '--dataset', 'op', '--markdown')
        assert result.code == 0, result.err
        assert '| 64 | 31 | 3090.4 | 431.7 | 7.2 |' in result.out
        assert 'GTX 2080 Ti' in result.out

    def test_help_has_examples(self):
        result = run_tool('table.py', '--help')
        assert result.code == 0
        assert 'python tools/table.py --measured work_dirs' in result.out


class TestBadInput:
    def test_unknown_dataset(self):
        error = run_tool('table.py', '--dataset', 'voc').error
        assert error == '--dataset must be one of imagenet, ade20k, cityscapes, coco, op, got voc'

    def test_unknown_config(self):
        error = run_tool('table.py', 'configs/ade20k/upernet_resnet.py').error
        assert error.startswith('expected a config with a published figure, got configs/ade20k/upernet_resnet.py')

    def test_config_of_another_dataset(self):
        assert 'a published figure on coco' in run_tool('table.py', PELK_T, '--dataset', 'coco').error

    def test_missing_work_directory(self, tmp_path):
        error = run_tool('table.py', PELK_T, '--measured', tmp_path / 'none').error
        assert error == f'--measured must name work directories, found no folder {tmp_path / "none"}'

    @pytest.mark.parametrize('arguments', [['--write-docs', PELK_T], ['--dataset', 'op', '--measured', '.']])
    def test_what_does_not_go_together(self, arguments):
        result = run_tool('table.py', *arguments)
        assert result.code == 2
        assert 'leave out' in result.err


class TestMeasured:
    """Work directories as MMEngine leaves them after tools/test.py."""

    @pytest.fixture
    def leave_test(self, tmp_path, repository):
        def leave(time, metrics, config='imagenet/pelk_t', tta=False, work_dir=None, **changes):
            cfg = Config.fromfile(repository / f'configs/{config}.py')
            cfg.merge_from_dict({'load_from': '/somewhere/epoch_300.pth', **changes})
            if tta:
                cfg.model = dict(type='SegTTAModel', module=cfg.model)
            stem = config.partition('/')[2]
            run = tmp_path / (work_dir or stem) / time
            (run / 'vis_data').mkdir(parents=True)
            cfg.dump(run / 'vis_data' / 'config.py')
            cfg.dump(run.parent / f'{stem}.py')
            (run / f'{time}.json').write_text(json.dumps({**metrics, 'time': 0.1}))

        return leave

    @pytest.fixture
    def find(self, tmp_path, repository):
        configs = {row.config: repository / row.path for row in ROWS}
        return lambda: find_measured([tmp_path], configs)

    def test_the_newest_test_counts(self, leave_test, find):
        leave_test('20261101_120000', {'accuracy/top1': 81.0})
        leave_test('20261102_120000', {'accuracy/top1': 82.444}, work_dir='of another name')
        found, ignored = find()
        measured = found['imagenet/pelk_t']
        assert measured.metrics == {'top-1': 82.444}
        assert measured.checkpoints == {'top-1': 'epoch_300.pth'}
        assert measured.runs['top-1'].endswith('of another name/20261102_120000')
        assert not ignored

    def test_demos_other_networks_and_parts_of_the_data_do_not_count(self, leave_test, find):
        leave_test('20261103_120000', {'accuracy/top1': 10.0}, work_dir='demo', **{'train_cfg.max_epochs': 1})
        leave_test('20261104_120000', {'accuracy/top1': 11.0}, **{'model.backbone.depths': (1, 1, 1, 1)})
        leave_test('20261105_120000', {'mIoU': 12.0}, 'ade20k/upernet_shiftwise_v1_t')
        leave_test('20261106_120000', {'accuracy/top1': 13.0}, **{'test_dataloader.dataset.indices': 2})
        found, ignored = find()
        assert not found
        reasons = [sentence.partition('.json: ')[2] for sentence in ignored]
        assert reasons == [
            'train_cfg differs from pelk_t.py',
            'model.backbone differs from pelk_t.py',
            'of no config of the tables',
            'test_dataloader.dataset.indices differs from pelk_t.py',
        ]

    def test_several_scales_are_another_metric(self, leave_test, find):
        config = 'cityscapes/upernet_replknet_31b_769'
        leave_test('20261101_120000', {'mIoU': 83.01, 'aAcc': 97.0}, config)
        leave_test('20261102_120000', {'mIoU': 83.4}, config, tta=True)
        assert find()[0][config].metrics == {'mIoU': 83.01, 'mIoU (ms)': 83.4}

    def test_detection_is_in_percent(self, leave_test, find):
        config = 'coco/cascade_mask_rcnn_pelk_t'
        leave_test('20261101_120000', {'coco/bbox_mAP': 0.512, 'coco/segm_mAP': 0.44, 'coco/bbox_mAP_50': 0.66}, config)
        assert find()[0][config].metrics == pytest.approx({'box AP': 51.2, 'mask AP': 44.0})

    def test_other_files_are_no_results(self, tmp_path, find):
        (tmp_path / 'pelk_t').mkdir()
        (tmp_path / 'pelk_t' / 'metrics.json').write_text('{"accuracy/top1": 1.0}')
        assert find() == ({}, [])

    def test_in_the_table(self, tmp_path, leave_test):
        leave_test('20261101_120000', {'accuracy/top1': 82.444})
        leave_test('20261103_120000', {'accuracy/top1': 10.0}, work_dir='demo', **{'train_cfg.max_epochs': 1})
        result = run_tool('table.py', PELK_T, '--measured', tmp_path, '--json', tmp_path / 'figures.json')
        assert result.code == 0, result.err
        (line,) = [line for line in result.out.splitlines() if 'PeLK-T' in line]
        assert cells(line)[2:4] == ['82.6', '82.44']
        assert 'ignored ' in result.err
        assert json.loads((tmp_path / 'figures.json').read_text())[0]['measured']['metrics'] == {'top-1': 82.444}


class TestOpTable:
    def row(self, n=64, c=384, edge=32, kernel=31, ours=2.0, plain=30.0, **changes):
        row = {
            'shape': dict(n=n, c=c, h=edge, w=edge, r=kernel, s=kernel),
            'pass': 'forward',
            'dtype': 'float32',
            'layout': 'contiguous',
            'ours': {'median_ms': ours},
            'baselines': {'contiguous': {'skipped': 'too slow'} if plain is None else {'median_ms': plain}},
        }
        return row | changes

    def write(self, path, *rows):
        machine = dict(cpu='a CPU', threads=1, gpu='a GPU')
        path.write_text(json.dumps(dict(kind='ops', run=dict(device='cuda', machine=machine), rows=rows)))

    def test_beside_the_published(self, tmp_path):
        others = [
            self.row(c=128),
            self.row(dtype='float16'),
            self.row(kernel=51),
            {**self.row(edge=64), 'skipped': 'OOM'},
        ]
        other_pass = self.row(**{'pass': 'backward'})
        self.write(tmp_path / 'a.json', self.row(), self.row(edge=16, plain=None), *others, other_pass)
        (tmp_path / 'model.json').write_text('{"kind": "model"}')
        grid = make_op_grid(read_runs(tmp_path.glob('*.json')))
        assert grid.columns[5:] == [f'{name}, a GPU N = 64' for name in ('F.conv2d', 'ours', 'ratio')]
        found = {(row[0], row[1]): row[5:] for row in grid.rows if set(row[5:]) != {'-'}}
        # 24 layers.
        assert found == {('32', '31'): ['720.0', '48.0', '15.0'], ('16', '31'): ['-', '48.0', '-']}
        assert len(grid.rows) == 30

    def test_batches_stand_apart(self, tmp_path):
        self.write(tmp_path / 'a.json', self.row(), self.row(n=2))
        assert len(make_op_grid(read_runs(tmp_path.glob('*.json'))).columns) == 5 + 2 * 3

    def test_broken_file(self, tmp_path):
        (tmp_path / 'a.json').write_text('{')
        with pytest.raises(UsageError, match='a.json is no JSON'):
            read_runs(tmp_path.glob('*.json'))


class TestModelZoo:
    """The page in the checkout: the published part is made again here; ours took tools/table.py --write-docs."""

    @pytest.fixture(scope='class')
    @staticmethod
    def page(repository) -> str:
        return (repository / 'docs/model_zoo.md').read_text()

    def test_published_part_is_up_to_date(self, page):
        assert published_part(page) == published_part(make_page([Line(row) for row in ROWS]))

    def test_ours_are_within_the_bounds_or_have_a_cause(self, page):
        rows = [line for line in page.splitlines() if line.startswith('| [')]
        assert len(rows) == len(ROWS)
        for line, row in zip(rows, ROWS):
            values = dict(zip(head_of(page, line), cells(line)))
            ours = Complexity(float(values['params (M), ours']) * 1e6, float(values['FLOPs (G), ours']) * 1e9)
            for size, head in (('params', 'params (M)'), ('flops', 'FLOPs (G)')):
                if row.printed[size] is not None:
                    comparison = compare(row, ours)[size]
                    assert comparison.explained, line
                    difference = re.match(r'([+-][\d.]+) %', values[f'{head}, difference'])
                    # Ours is rounded on the page.
                    digit = 0.1 ** len(values[f'{head}, ours'].partition('.')[2])
                    tolerance = 0.051 + 50 * digit / float(row.printed[size])
                    assert float(difference[1]) == pytest.approx(100 * comparison.relative, abs=tolerance)

    def test_ours_are_what_the_tool_counts(self, page):
        for config in ('imagenet/unireplknet_t', 'ade20k/upernet_pelk_t', 'coco/fcos_replknet_31b'):
            result = run_tool('table.py', '--markdown', f'configs/{config}.py')
            (line,) = [line for line in result.out.splitlines() if line.startswith('| [')]
            assert line in page.splitlines()


def head_of(page: str, line: str) -> list[str]:
    heads = [cells(head) for head in page[: page.index(line)].splitlines() if head.startswith('| config ')]
    return heads[-1]


def published_part(page: str) -> list[str]:
    """A page without what is counted: ours, differences, and the notes they refer to."""
    part, counted = [], []
    for line in page.splitlines():
        if line.startswith('| config '):
            counted = [head.endswith((', ours', ', difference')) for head in cells(line)]
        if line.startswith('|'):
            line = ' | '.join('' if drop else cell for drop, cell in zip(counted, cells(line)))
        if line and not re.match(r'\(\d+\) ', line):
            part.append(line)
    return part
