"""The command that trains."""

from dataclasses import dataclass

from ae_core.commands.run import RunOptions, train_run
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Train(RunOptions):
    """Train an autoencoder; leaves weights, report and figures in a folder."""

    def run(self, engine: Engine) -> int:
        """Train and say how it went."""
        result = train_run(engine, self)
        best = result.epochs[result.best_epoch].heldout["loss"]
        if result.status != "finished":
            print(f"training {result.status}: {result.message}; the weights of epoch {result.best_epoch} are kept")
        print(f"held-out loss {best:.6g} after epoch {result.best_epoch}, in {result.seconds:.1f} s")
        print(f"weights, report and figures: {self.out}")
        return {"finished": 0, "diverged": 1, "interrupted": 130}[result.status]
