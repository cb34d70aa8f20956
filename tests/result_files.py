"""What every result file of a benchmark says about its run."""

RUN = {
    'date': '2026-11-22T10:00:00Z',
    'commit': 'a' * 40,
    'dirty': False,
    'device': 'cpu',
    'machine': {'cpu': 'some', 'cores': 2, 'threads': 2, 'capability': 'AVX2', 'gpu': None},
    'versions': {'mmlk': '0', 'python': '3', 'torch': '2', 'cuda': None, 'cudnn': None, 'triton': None},
    'flags': {'cudnn_allow_tf32': True},
}
