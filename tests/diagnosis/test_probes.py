"""Steps in processes of their own: what they find, and what is left of one that raises, dies or hangs."""

import pytest

from mmlk.diagnosis.probes import Step, run_steps


def test_order_and_facts():
    steps = run_steps(['triton', 'numpy'])
    assert list(steps) == ['triton', 'numpy']
    import numpy

    assert steps['numpy'].ok and steps['numpy'].facts == {'version': numpy.__version__, 'works': True}
    assert steps['numpy'].seconds > 0


def test_torchvision_that_raises(fake_packages):
    """What a torchvision beside a torch of another build does; torch itself is a fake here, so this takes no time."""
    fake_packages(
        torch='__version__ = "2.11.0"',
        torchvision='raise RuntimeError("operator torchvision::nms does not exist")',
    )
    step = run_steps(['torchvision'])['torchvision']
    assert step == Step(
        'torchvision', False, 'RuntimeError: operator torchvision::nms does not exist', {}, step.seconds
    )
    assert step.missing is None


def test_missing_package_and_missing_dependency(fake_packages):
    fake_packages(
        numpy='import no_such_package', cv2='try:\n    import gone\nexcept ImportError:\n    raise OSError("no")'
    )
    steps = run_steps(['numpy', 'cv2'])
    assert steps['numpy'].missing == 'no_such_package'
    assert steps['cv2'].error == "OSError: no <- ModuleNotFoundError: No module named 'gone'"


@pytest.mark.parametrize(
    'source, error',
    [
        ('import os, signal; os.kill(os.getpid(), signal.SIGSEGV)', 'the process was killed by SIGSEGV'),
        (
            'import os, sys; print("why", file=sys.stderr, flush=True); os._exit(7)',
            'the process ended with status 7: why',
        ),
        ('raise SystemExit("enough")', 'SystemExit: enough'),
    ],
)
def test_a_crash_ends_its_step_alone(fake_packages, source, error):
    fake_packages(cv2=source)
    begun = []
    steps = run_steps(['numpy', 'cv2', 'triton'], advance=begun.append)
    assert steps['numpy'].ok and steps['triton'].ok
    assert not steps['cv2'].ok and steps['cv2'].error.startswith(error)
    # The line that it died in.
    assert 'SIGSEGV' not in error or 'cv2/__init__.py", line 1' in steps['cv2'].error
    assert begun == (['numpy', 'triton'] if 'killed' in error or 'status' in error else ['numpy'])


def test_a_hang_ends_its_step_alone(fake_packages):
    fake_packages(cv2='import time\ntime.sleep(60)', numpy='__version__ = "1"', triton='__version__ = "2"')
    # The faked packages are there at once; a step of the real ones takes longer.
    steps = run_steps(['cv2', 'triton'], timeout=2)
    assert steps['cv2'].error == 'still busy after 2 s'
    assert steps['triton'].facts == {'version': '2'}


def test_what_packages_print_does_not_matter(fake_packages):
    noise = 'import os, sys\nprint("hello", end="")\nos.write(1, b"\\xff\\x1e mmlk")\n__version__ = "3"'
    fake_packages(triton=noise)
    assert run_steps(['triton'])['triton'].facts == {'version': '3'}


def test_a_folder_of_the_current_directory_is_not_taken_for_a_package(tmp_path, monkeypatch):
    (tmp_path / 'triton').mkdir()
    (tmp_path / 'triton/__init__.py').write_text('raise RuntimeError("wrong one")')
    monkeypatch.chdir(tmp_path)
    assert 'wrong one' not in run_steps(['triton'])['triton'].error


def test_operators():
    """The real thing: every backend with its reason, and the result right."""
    steps = run_steps(['ops', 'torchvision'])
    assert steps['torchvision'].ok and steps['torchvision'].facts['works']
    facts = steps['ops'].facts
    found = {(entry['op'], entry['name']): entry for entry in facts['backends'] if entry['device'] == 'cpu'}
    assert found['depthwise_conv2d', 'cpu']['reason'] == '' and found['depthwise_conv2d', 'reference']['reason'] == ''
    assert found['depthwise_conv2d', 'triton']['reason'] == 'it needs CUDA tensors, got cpu'
    assert found['peripheral_conv2d', 'dense']['reason'] == ''
    for op in ('depthwise_conv2d', 'peripheral_conv2d'):
        assert sum(entry['chosen'] for (name, _), entry in found.items() if name == op) == 1
    assert 0 < facts['error']['cpu'] < 1e-5
