"""The commands and the config of docs/distributed.md are what the scripts and tools take."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / 'docs' / 'distributed.md').read_text()
COMMANDS = [
    line.partition('  #')[0].strip()
    for block in re.findall(r'^```text\n(.*?)^```', TEXT, re.M | re.S)
    for line in block.splitlines()
    if 'bash tools/' in line
]
SHOW = '#!/bin/sh\nfor argument in "$@"; do printf "%s\\n" "$argument"; done\n'


@pytest.mark.parametrize('command', COMMANDS)
def test_command(command, tmp_path, monkeypatch):
    for name in ('srun', 'python'):
        (tmp_path / name).write_text(SHOW)
        (tmp_path / name).chmod(0o755)
    shell = ['bash', '-ec', command]
    environment = {'PATH': f'{tmp_path}:/usr/bin:/bin'}
    shown = subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    arguments = shown.stdout.splitlines()
    tool = next(place for place, text in enumerate(arguments) if text.endswith(('/train.py', '/test.py')))
    # The tools' own parsers, which exit on what they do not know.
    monkeypatch.setattr(sys, 'argv', arguments[tool:])
    monkeypatch.setenv('LOCAL_RANK', '0')
    args = runpy.run_path(str(ROOT / 'tools' / Path(arguments[tool]).name))['parse_args']()
    assert (ROOT / args.config).is_file()
    assert args.launcher == ('slurm' if 'slurm' in command else 'pytorch')
    if 'slurm' not in command:
        # The other arguments are torchrun's.
        launch = runpy.run_module('torch.distributed.run')['parse_args'](
            arguments[arguments.index('mmlk.cli.launch') + 1 :]
        )
        words = shlex.split(command)
        assert launch.nproc_per_node in words and f'NODE_RANK={launch.node_rank}' in [*words, 'NODE_RANK=0']


def test_config_with_fsdp(tmp_path):
    (block,) = re.findall(r'^```python\n(.*?)^```', TEXT, re.M | re.S)
    path = tmp_path / 'fsdp.py'
    path.write_text(block)
    cfg = Config.fromfile(path)
    assert cfg.runner_type == 'FlexibleRunner' and cfg.strategy.type == 'mmlk.FSDPStrategy'
    assert cfg.model.backbone.type == 'mmlk.RepLKNet'
