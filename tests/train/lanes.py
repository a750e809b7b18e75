"""Trainings in this process, for tests: both frameworks are imported here, which no worker does."""

from twinax.frameworks.make import make_runner
from twinax.records import PROVED, Cell, Options, Size
from twinax.train import setting
from twinax.train.loop import Loop


def cell_of(twin, side, dtype="float64"):
    return Cell(twin=twin.name, study="training", side=side, mode=PROVED[side], size=Size(batch=4), dtype=dtype)


class Interrupted(Loop):
    """A training that ends before its time."""

    limit = 10**9

    @property
    def done(self):
        return self.step >= self.limit or super().done


def loop_of(twin, side, folder, start=None, dtype="float64", checkpoint_s=1e9, **settings):
    """A training of the twin's tiny recipe with some settings, from its start or from a checkpoint."""
    options = Options(settings=settings, dtype=dtype, checkpoint_s=checkpoint_s, keep=100)
    made = setting.make(twin, cell_of(twin, side, dtype), options, folder, 0)
    weights = made.twin.init(made.twin.config, options.seed)
    runner = make_runner(cell_of(twin, side, dtype), made.twin, weights)
    return Interrupted(runner, made, start, weights)


def until(loop, step):
    """Train until so many steps are made, and write a checkpoint there."""
    loop.limit = step
    loop.advance(1e9)
    loop.limit = Interrupted.limit
    return loop
