"""What every campaign asserts: a slice of it, and its committed result."""

import json

from hostile.campaign import GOOD, OUTCOMES, RESULTS, Campaign, numbers_of, run

#: The committed runs have seed 0.
SLICE_SEED = 20261122


def assert_slice(campaign: Campaign, cases: int) -> None:
    """Run the first cases of another seed; all of them have good outcomes, and every kind is among them."""
    assert cases >= len(campaign.kinds), f'{cases} cases leave out some of {len(campaign.kinds)} kinds'
    report = run(campaign, numbers_of(campaign, cases), SLICE_SEED)
    assert len(report.outcomes) == cases
    assert [outcome.as_record(SLICE_SEED, campaign.name) for outcome in report.bad] == []


def assert_committed(campaign: Campaign, cases: int) -> None:
    """The committed run has at least so many cases, of the kinds there are now, and no bad outcome."""
    content = json.loads((RESULTS / f'{campaign.name}.json').read_text())
    assert content['campaign'] == campaign.name
    assert content['cases'] >= max(cases, campaign.cases)
    assert content['seed'] != SLICE_SEED
    assert list(content['kinds']) == list(campaign.kinds), 'the kinds have changed: run the campaign again'
    counts = {name: sum(kind.get(name, 0) for kind in content['kinds'].values()) for name in OUTCOMES}
    assert counts == content['total'] and sum(counts.values()) == content['cases']
    assert {name: count for name, count in counts.items() if count and name not in GOOD} == {}
    assert content['bad'] == []
