"""The atlas: a latent space as one web page, in which the spot under the pointer is decoded as it moves.

The page needs no server and no network; what it shows is made here, in NumPy. A plugin gives its decoder steps that
the page can carry out through the doors of `ae_core.atlas.decoder`.
"""

from ae_core.atlas.content import Content as Content
from ae_core.atlas.content import make_content as make_content
from ae_core.atlas.decoder import NoSteps as NoSteps
from ae_core.atlas.decoder import activation_step as activation_step
from ae_core.atlas.decoder import backbone_steps as backbone_steps
from ae_core.atlas.decoder import decoder_steps as decoder_steps
from ae_core.atlas.decoder import linear_step as linear_step
from ae_core.atlas.decoder import norm_steps as norm_steps
from ae_core.atlas.decoder import output_steps as output_steps
from ae_core.atlas.document import render as render
from ae_core.atlas.page_decoder import LIMIT as LIMIT
from ae_core.atlas.page_decoder import Distance as Distance
from ae_core.atlas.page_decoder import Means as Means
from ae_core.atlas.page_decoder import PageDecoder as PageDecoder
from ae_core.atlas.steps import Activate as Activate
from ae_core.atlas.steps import DecoderSteps as DecoderSteps
from ae_core.atlas.steps import Linear as Linear
from ae_core.atlas.steps import Normalise as Normalise
from ae_core.atlas.steps import Reshape as Reshape
from ae_core.atlas.steps import Scale as Scale
from ae_core.atlas.steps import Spread as Spread
from ae_core.atlas.steps import Step as Step
