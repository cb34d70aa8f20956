"""Sphinx configuration; CONTRIBUTING.md gives the command. Nothing is fetched from the network."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def read_version() -> str:
    """``__version__`` without importing the package, which needs torch."""
    tree = ast.parse((ROOT / 'mmlk' / 'version.py').read_text())
    return next(ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))


project = 'mmlk'
author = 'The mmlk authors'
release = version = read_version()

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
root_doc = 'index'
source_suffix = {'.md': 'markdown'}
# Links to headings as GitHub makes them.
myst_heading_anchors = 4
# As in the signature, so that nothing is said twice.
autodoc_typehints = 'signature'
autodoc_member_order = 'bysource'
# Single characters of equations in backquotes, and quotes as they are typed.
smartquotes = False

html_theme = 'alabaster'
html_theme_options = {
    'description': 'Large-kernel ConvNets for PyTorch and OpenMMLab',
    'fixed_sidebar': True,
    'page_width': '1180px',
    'show_powered_by': False,
}
html_copy_source = False
html_show_sourcelink = False


def link_files_of_the_checkout(app, name, source):
    """Pages outside of this folder, such as the READMEs of the ops, are files to fetch and no pages of the site."""
    source[0] = re.sub(r'\]\((\.\./[^)\s]+\.md)\)', r'](path:\1)', source[0])


def setup(app):
    app.connect('source-read', link_files_of_the_checkout)
