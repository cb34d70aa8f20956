"""What is installed, what works, what is known not to, and the cure. Needs the standard library alone.

Nothing is imported here that could fail: every other package is tried in a process of its own.
"""

from mmlk.diagnosis.facts import Finding
from mmlk.diagnosis.report import Report, diagnose, to_dict, to_lines

__all__ = ['Finding', 'Report', 'diagnose', 'to_dict', 'to_lines']
