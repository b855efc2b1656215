"""account(): what a network costs, layer by layer, found in one pass on the meta device.

One MAC is one multiply-accumulate of a convolution or a matrix product. Biases, batch norm, pooling, additions and
activation functions cost none. An operator that is not known to be free and has no rule is listed in `uncounted`.
"""

from .count import account
from .rows import LEVELS, Account, Row, Totals

__all__ = ["LEVELS", "Account", "Row", "Totals", "account"]
