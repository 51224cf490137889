"""Images for both twins: NumPy, [N, H, W, C], float32 in [0, 1]."""

from ae_core.data.cans import cans as cans
from ae_core.data.cans import draw_cans as draw_cans
from ae_core.data.dataset import DataOptions as DataOptions
from ae_core.data.dataset import Dataset as Dataset
from ae_core.data.garments import GARMENT_NAMES as GARMENT_NAMES
from ae_core.data.garments import draw_garments as draw_garments
from ae_core.data.garments import garments as garments
from ae_core.data.load import load as load
from ae_core.data.load import read_images as read_images
from ae_core.data.order import batch_indices as batch_indices
from ae_core.data.order import epoch_order as epoch_order
from ae_core.data.order import split as split
from ae_core.data.order import steps_per_epoch as steps_per_epoch
from ae_core.data.validate import validate_images as validate_images
