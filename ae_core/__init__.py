"""What the twins share: spec, data, weights file, command line. NumPy, never a framework."""

from ae_core.errors import DataError as DataError
from ae_core.errors import OutputError as OutputError
from ae_core.errors import SpecError as SpecError
from ae_core.errors import UserError as UserError
from ae_core.errors import WeightsError as WeightsError
from ae_core.spec import Spec as Spec
from ae_core.spec import load_spec as load_spec
from ae_core.spec import spec_from_json as spec_from_json
from ae_core.spec import spec_to_json as spec_to_json
from ae_core.spec.presets import PRESETS as PRESETS
from ae_core.spec.presets import preset as preset
from ae_core.spec.presets import register_preset as register_preset
