"""Named faults for either twin or for both, planted by patching, never by a flag of the product.

Each is a difference that is known to slip in between frameworks, or a formula that is easily got wrong in both: the
suite has to notice every one of them.
"""

from parity_tests.faults.both import CORE, TOGETHER
from parity_tests.faults.layers import LAYERS
from parity_tests.faults.losses import LOSSES
from parity_tests.faults.members import MEMBERS
from parity_tests.faults.noise import NOISE
from parity_tests.faults.planting import Fault
from parity_tests.faults.training import TRAINING

FAULTS: dict[str, Fault] = dict(
    sorted(
        (LAYERS | LOSSES | MEMBERS | NOISE | TRAINING | TOGETHER | CORE).items(),
        key=lambda item: item[1].twin,
        reverse=True,
    )
)
"""Every fault by name; those of one twin together, so that what the other has compiled can be kept."""
