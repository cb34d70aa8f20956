"""docs/robustness.md shows the committed results."""

import pytest
from hostile.page import PAGE, RESULTS, campaigns, filled, table


def test_tables_are_those_of_the_results():
    text = PAGE.read_text()
    assert {'configs', 'data'} <= set(campaigns(text))
    missing = [name for name in campaigns(text) if not (RESULTS / f'{name}.json').is_file()]
    assert missing == [], 'run these campaigns'
    assert text == filled(text), 'write the tables again: python tests/hostile/page.py'


def test_a_bad_outcome_shows():
    kinds = {'a': {'worked': 2, 'hang': 1}, 'b': {'one sentence': 3}}
    total = {'worked': 2, 'one sentence': 3, 'unexplained': 0, 'hang': 1}
    content = dict(cases=6, seed=0, date='2026-11-22', kinds=kinds, total=total)
    lines = table(content).splitlines()
    assert lines[-3:] == ['| a | 2 | 0 | 1 |', '| b | 0 | 3 | 0 |', '| **all** | 2 | 3 | 1 |']


@pytest.mark.parametrize('name', ['configs', 'data'])
def test_page_without_a_table(name):
    text = f'before\n<!-- campaign: {name} -->\nstale-line\n<!-- end -->\nafter\n'
    assert 'stale-line' not in filled(text) or not (RESULTS / f'{name}.json').is_file()
    assert filled(text).endswith('<!-- end -->\nafter\n')
