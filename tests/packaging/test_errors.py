"""One error hierarchy, and messages a person can act on."""

import pickle

import pytest

from autoprune import errors

SUBCLASSES = [
    errors.ArtifactError,
    errors.BudgetError,
    errors.FormatError,
    errors.GraphError,
    errors.LearnerError,
    errors.NotEqualError,
    errors.PlanError,
    errors.RuleError,
    errors.TargetError,
    errors.TraceError,
]


def test_hierarchy_is_complete_and_flat():
    assert set(errors.AutopruneError.__subclasses__()) >= set(SUBCLASSES)
    defined = {v for v in vars(errors).values() if isinstance(v, type)}
    assert defined == {errors.AutopruneError, errors.BudgetWarning, errors.Notice, *SUBCLASSES}
    assert errors.Notice.__bases__ == (UserWarning,)


@pytest.mark.parametrize("error", SUBCLASSES)
def test_each_error_says_when_it_is_raised(error):
    assert error.__bases__ == (errors.AutopruneError,)
    assert error.__doc__


@pytest.mark.parametrize(
    ("where", "hint", "message"),
    [
        (None, None, "no"),
        ("node `a`", None, "no\n  where: node `a`"),
        (None, "do b", "no\n  what to do: do b"),
        ("node `a`", "do b", "no\n  where: node `a`\n  what to do: do b"),
    ],
)
def test_message(where, hint, message):
    assert str(errors.PlanError("no", where=where, hint=hint)) == message


def test_error_survives_a_process_border():
    error = errors.BudgetError("no", where="here", hint="do b")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.BudgetError
    assert str(copy) == str(error)


def test_a_terminal_obeys_no_message():
    """Names in messages may come from a hostile file."""
    error = errors.PlanError("no \x1b[2J\n", where="\u202ereversed\x07", hint="größer")
    assert str(error) == "no \\x1b[2J\n\n  where: \\u202ereversed\\x07\n  what to do: größer"
