"""The atlas: a latent space as one web page, in which the spot under the pointer is decoded as it moves.

The page needs no server and no network; what it shows is made here, in NumPy.
"""

from ae_core.atlas.content import Content as Content
from ae_core.atlas.content import make_content as make_content
from ae_core.atlas.decoder import Program as Program
from ae_core.atlas.decoder import decoder_program as decoder_program
from ae_core.atlas.document import render as render
from ae_core.atlas.live import Distance as Distance
from ae_core.atlas.live import Live as Live
from ae_core.atlas.live import Means as Means
