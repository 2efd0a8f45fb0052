"""An observation: --observation belief_observation:belief."""


def belief(state):
    """The probability of every class, and where the latest look was."""
    return {"probabilities": state.probabilities, "location": state.location}
