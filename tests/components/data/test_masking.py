from components.data.masking import masked

SOURCE = '''# Licence of Alpha
import alpha
from alpha.core import (
    one,  # a comment
    two,
)
from beta import x, \\
    y
import os; os.getcwd()

"""Docs of Alpha and ALPHA_beta.

>>> import alpha
>>> alpha.run()
"""
class AlphaRunner:  # kept
    # dropped
    value = one(two)
    important = 1
'''

EXPECTED = '''"""Docs of lib and lib_lib.

>>> lib.run()
"""
class libRunner:  # kept
    value = one(two)
    important = 1'''


def test_imports_comments_and_names_are_gone_and_nothing_else():
    assert masked(SOURCE, ["alpha", "beta"]) == EXPECTED


def test_a_longer_name_is_masked_before_a_name_inside_it():
    assert masked("ray_tune = tune + array", ["ray", "ray_tune"]) == "lib = tune + arlib"
