"""``python -m mmlk SCRIPT [ARGUMENT ...]``: run a script of another package, with mmlk imported before it.

For tools of the hosts where a config names ``mmlk::...`` as its base, and for those of timm: both have to know mmlk
before they read a config or the name of a model.
"""

import runpy
import sys
from pathlib import Path

USAGE = 'usage: python -m mmlk SCRIPT [ARGUMENT ...]'


def main() -> None:
    arguments = sys.argv[1:]
    if arguments and arguments[0] in ('-h', '--help'):
        print(f'{USAGE}\n\n{__doc__}')
        sys.exit(0)
    if not arguments or not Path(arguments[0]).is_file():
        found = f'found none at {arguments[0]}' if arguments else 'got nothing'
        print(f'{USAGE}\nerror: expected a Python script, {found}', file=sys.stderr)
        sys.exit(2)
    script = Path(arguments[0])
    sys.argv = arguments
    # As Python does for a script: what lies beside it can be imported.
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name='__main__')


if __name__ == '__main__':
    main()
