"""docs/sparsity.md: what it shows runs."""

import re


def test_the_example_for_torch_alone_runs(repository, capsys):
    blocks = re.findall(r'^```python\n(.*?)^```', (repository / 'docs/sparsity.md').read_text(), re.M | re.S)
    (example,) = [block for block in blocks if 'import torch' in block]
    exec(compile(example, 'docs/sparsity.md', 'exec'), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [str(step) for step in range(10, 101, 10)]
