"""The oracle: the whole autoencoder a third time, in NumPy float64, forward and backward by hand, from the papers.

It shares no code with the twins, so a wrong formula that both share shows here. And it says how far rounding may take
a twin from it. What a layer computes from exact inputs, rounded to unit roundoff u (2⁻²⁴ for float32, 2⁻⁵³ for
float64) after every operation, is off by at most

    K·u·scale        always (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1)
    2·√K·u·scale     unless rounding errors conspire (Higham & Mary, 2019, "A new approach to probabilistic rounding
                     error analysis", theorem 2.4: with λ = 2, for errors of mean zero that are independent)

where K is the number of roundings that reach one number, whatever the order of a sum, and ``scale`` is the same formula
with absolute values for numbers and sums for differences. For an inner product of K terms, scale is |w|·|x|. The *unit*
of a number is √K·u·scale, and the limit is 2 units. All roundings are at most u, and mostly less: a rounding is uniform
at best, u/√3 in the mean, so that 2 units are more than 3 standard deviations even where all terms have one sign and
their partial sums grow; where signs differ, errors are far below a unit. Up to K = 4 the second bound holds always.

A layer that does not say what its units are has them counted by `rounding`, from the same rules.

To first order in u: σ, in a norm, is a positive sum of exact squares up to terms in u², and is divided by as it is.
"""

import parity_tests.oracle.conv
import parity_tests.oracle.dense
import parity_tests.oracle.residual  # noqa: F401 (each registers its kinds)
from parity_tests.oracle.errors import RandomErrors as RandomErrors
from parity_tests.oracle.layer import Bounded as Bounded
from parity_tests.oracle.layer import Layer as Layer
from parity_tests.oracle.layer import Values as Values
from parity_tests.oracle.model import Net as Net
from parity_tests.oracle.model import Result as Result
from parity_tests.oracle.model import layers_of as layers_of
from parity_tests.oracle.model import net_of as net_of
from parity_tests.oracle.model import parameters_of as parameters_of
from parity_tests.oracle.model import run as run
from parity_tests.oracle.model import without_oracle as without_oracle
from parity_tests.oracle.rounding import units_of as units_of
