"""Proposals that were made before: they are answered from what is known, and trained no more."""

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from fmnist.search.space import Space, combinations, propose

SAME_AS = "same_as"  # the attribute of a trial that has an earlier one's values: its number
MOST = 100  # proposals in a row, of a space that has no end, that may have been made before
BY_VALUES = "by_values"  # the attribute of a trial that failed: whether its values are the cause
KNOWN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def is_repeated(trial: FrozenTrial) -> bool:
    """Whether a trial was answered from an earlier one."""
    return SAME_AS in trial.user_attrs


def twin(study: optuna.Study, params: Mapping[str, Any], number: int) -> FrozenTrial | None:
    """Another trial of these values that is known or at work; None where there are no values."""
    for other in study.get_trials(deepcopy=False):
        if params and other.number != number and other.params == params and _is_known(other):
            return other
    return None


def _is_known(trial: FrozenTrial) -> bool:
    """Whether a trial is at work or says what its values are worth, as one that failed by them."""
    failed = trial.state == TrialState.FAIL and trial.user_attrs.get(BY_VALUES, False)
    return trial.state in KNOWN or failed


def answer(study: optuna.Study, trial: Trial, known: FrozenTrial) -> None:
    """Tell the storage of a trial what is known of its values."""
    trial.set_user_attr(SAME_AS, known.number)
    if known.state == TrialState.COMPLETE:
        study.tell(trial, known.value)
    else:
        study.tell(trial, state=TrialState.FAIL)


def untried(study: optuna.Study, space: Space) -> list[dict[str, Any]] | None:
    """The combinations of values that are left; None for a space that has no end."""
    if (every := combinations(space)) is None:
        return None
    known = [t.params for t in study.get_trials(deepcopy=False) if _is_known(t)]
    return [values for values in every if values not in known]


def new_trial(
    study: optuna.Study, space: Space, sample_as: Callable[[int], object], seed: int
) -> Trial | None:
    """A trial of values that no other has; None where there are no such values left.

    `sample_as` makes the next proposal depend on the number of proposals so far alone.
    """
    for proposal in range(1, MOST + 1):
        left = untried(study, space)
        if left == []:
            return None
        trials = study.get_trials(deepcopy=False)
        number = sum(each.state != TrialState.WAITING for each in trials)
        sample_as(number)
        trial = study.ask()
        for name, distribution in space.items():
            propose(trial, name, distribution)
        known = twin(study, trial.params, trial.number)
        if known is None or proposal == MOST:
            return trial
        answer(study, trial, known)
        if left:
            study.enqueue_trial(left[(seed + number) % len(left)])
    return None  # which is never reached
