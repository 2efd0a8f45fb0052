"""A reward with a parameter: --reward sharp_reward:Sharp:power=3."""


class Sharp:
    """The gain of the confidence in the true class, to a power; small gains count for little.

    Args:
        power: At least 1.
    """

    def __init__(self, power: float = 2.0):
        if power < 1:
            raise ValueError(f"power must be at least 1, not {power}")
        self.power = power

    def __call__(self, transition):
        labels = transition.labels
        before = transition.before.label_confidence(labels)
        gain = transition.after.label_confidence(labels) - before
        return gain.sign() * gain.abs() ** self.power
