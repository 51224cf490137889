"""The commands of both twins, as dataclasses: their fields are the flags, their docstrings the help."""

from typing import Annotated

import tyro

from ae_core.commands.atlas import Atlas
from ae_core.commands.decode import Decode
from ae_core.commands.encode import Encode
from ae_core.commands.evaluate import Evaluate
from ae_core.commands.info import Info
from ae_core.commands.latent.attribute import Attribute
from ae_core.commands.latent.grid import Grid
from ae_core.commands.latent.neighbours import Neighbours
from ae_core.commands.latent.outliers import Outliers
from ae_core.commands.latent.scatter import Scatter
from ae_core.commands.latent.traverse import Traverse
from ae_core.commands.latent.walk import Walk
from ae_core.commands.reconstruct import Reconstruct
from ae_core.commands.sample import Sample
from ae_core.commands.train import Train

Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Encode, tyro.conf.subcommand("encode")]
    | Annotated[Decode, tyro.conf.subcommand("decode")]
    | Annotated[Reconstruct, tyro.conf.subcommand("reconstruct")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Scatter, tyro.conf.subcommand("scatter")]
    | Annotated[Grid, tyro.conf.subcommand("grid")]
    | Annotated[Walk, tyro.conf.subcommand("walk")]
    | Annotated[Traverse, tyro.conf.subcommand("traverse")]
    | Annotated[Attribute, tyro.conf.subcommand("attribute")]
    | Annotated[Neighbours, tyro.conf.subcommand("neighbours")]
    | Annotated[Outliers, tyro.conf.subcommand("outliers")]
    | Annotated[Atlas, tyro.conf.subcommand("atlas")]
    | Annotated[Info, tyro.conf.subcommand("info")]
)
