"""Everything that changes in a run, in one object that saves and loads itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter

from torch import Tensor

from stylebench.engines.fused.choices import choices_so_far
from stylebench.optim.adam import Adam
from stylebench.optim.base import DeviceOptimizer, Optimizer
from stylebench.optim.lbfgs import LBFGS
from stylebench.processes.bands import ONE_BAND, Bands
from stylebench.processes.ranks import Ranks
from stylebench.transfer.banded_state import band_state, whole_state
from stylebench.transfer.checkpoint import Checkpoint, CheckpointError, identity_of
from stylebench.transfer.optimizer import make_optimizer
from stylebench.transfer.problem import Problem
from stylebench.transfer.schedule import Phase, warm_start
from stylebench.transfer.trace import Trace


@dataclass
class RunState:
    """A run between two iterations.

    Attributes:
        image: preprocessed [1, 3, H, W], moved in place.
        optimizer: bound to ``image``.
        start: [1, 3, H, W], the picture at the phase's size that the run's change is told from.
        trace: every evaluation so far, and the best image.
        phase: the phase that the run is in.
        phase_began: evaluations before that phase.
        inputs: hashes by which pictures are known again, where checkpoints are written or read.
        bands: of the images here, which are the rows of this process.
    """

    image: Tensor
    optimizer: Optimizer | DeviceOptimizer
    start: Tensor
    trace: Trace
    phase: Phase
    phase_began: int = 0
    inputs: Mapping[str, str] = field(default_factory=dict)
    bands: Bands = ONE_BAND

    @classmethod
    def begin(
        cls, phase: Phase, problem: Problem, inputs: Mapping[str, str] | None = None
    ) -> RunState:
        """The state before the first iteration, at the problem's starting image.

        Args:
            phase: the first.
            problem: built for it.
            inputs: ``input_hashes``, if there will be checkpoints.
        """
        image = problem.image.clone()
        optimizer = make_optimizer(phase.settings, problem, image)
        trace = Trace(image.clone())
        return cls(
            image, optimizer, problem.start, trace, phase, inputs=inputs or {}, bands=problem.bands
        )

    def enter(self, phase: Phase, problem: Problem) -> Problem:
        """Go on to the next phase.

        A polish keeps image and curvature; a larger size starts from the best image so far.

        Returns:
            The problem as it is run, with its true starting image.
        """
        if phase.polishes:
            self.reset_best()
        else:
            plain = problem.start
            best, start = (self._of_all(x, problem.ranks) for x in (self.trace.best, self.start))
            problem = warm_start(best, start, problem)
            # Not the warm start: the next size would lose what sizes before this one have changed.
            self.start, self.image = plain, problem.image.clone()
            del self.optimizer  # whose history the next one's would lie beside
            self.optimizer = make_optimizer(phase.settings, problem, self.image)
            self.trace.restart(self.image)
        self.phase, self.phase_began, self.bands = phase, self.trace.done, problem.bands
        return problem

    def _of_all(self, image: Tensor, ranks: Ranks) -> Tensor:
        """The whole of an image, of the same bits on every rank."""
        whole = self.bands.whole(image)
        return ranks.of_first(whole) if self.bands.ranks.alone else whole

    def reset_best(self) -> None:
        """Forget the best image, since gradients of another precision come; keep the curvature."""
        if isinstance(self.optimizer, DeviceOptimizer):
            self.optimizer.reset_best()
        self.trace.restart(self.image)

    @property
    def phase_ends(self) -> int:
        """Evaluations when the phase is done."""
        return self.phase_began + self.phase.iterations

    def checkpoint(self, problem: Problem) -> Checkpoint:
        """The checkpoint of a run, which is whole on rank 0; all processes have to ask for it.

        Raises:
            CheckpointError: the optimizer is one of torch's own.
        """
        return Checkpoint(
            phase=self.phase.index,
            phase_began=self.phase_began,
            start=self.bands.at_first(self.start),
            image=self.bands.at_first(self.image),
            optimizer=whole_state(self.checkpointable().state_dict(), self.image, self.bands),
            rows=self.trace.rows,
            best_loss=self.trace.best_loss,
            best_iteration=self.trace.best_iteration,
            identity=identity_of(problem),
            inputs=self.inputs,
            convolutions=choices_so_far(),
        )

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        phase: Phase,
        problem: Problem,
        inputs: Mapping[str, str] | None = None,
    ) -> tuple[RunState, Problem]:
        """The state that was saved, and the problem with the start that it had.

        Args:
            checkpoint: as it was read.
            phase: the one that ``checkpoint.phase`` counts.
            problem: built anew for that phase.
            inputs: ``input_hashes`` of what it was built of.

        Raises:
            CheckpointError: it belongs to another problem or optimizer, or to later iterations.
        """
        checkpoint.check(problem, inputs or {})
        if len(checkpoint.rows) > checkpoint.phase_began + phase.iterations:
            raise CheckpointError(
                f"the checkpoint has {len(checkpoint.rows)} iterations, more than this run comes "
                "to in its phase: resume with as many iterations or more"
            )
        bands = problem.bands
        image = bands.own(checkpoint.start).to(problem.image)
        problem = replace(problem, image=image, noiseless=None)
        state = cls.begin(phase, problem, inputs)
        state.image.copy_(bands.own(checkpoint.image))
        try:
            own = band_state(checkpoint.optimizer, state.image, bands)
            state.checkpointable().load_state_dict(own)
        except ValueError as error:
            raise CheckpointError(f"the checkpoint is of another optimizer: {error}") from error
        state.phase_began = checkpoint.phase_began
        state.trace = Trace(
            state.image.clone(),
            checkpoint.best_loss,
            checkpoint.best_iteration,
            list(checkpoint.rows),
            perf_counter() - checkpoint.rows[-1]["seconds"],  # the clock goes on where it stopped
        )
        return state, problem

    def checkpointable(self) -> LBFGS | Adam:
        """The optimizer, whose state can be saved.

        Raises:
            CheckpointError: it is one of torch's own.
        """
        if not isinstance(self.optimizer, LBFGS | Adam):
            raise CheckpointError(
                "checkpoints need an optimizer that stays on the device: choose another engine "
                "than reference, and no tolerances"
            )
        return self.optimizer
