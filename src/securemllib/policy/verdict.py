"""The one piece of code that answers a question about a job from one policy: whoever explains a policy asks what the broker asks."""

from dataclasses import dataclass

from securemllib.policy.model import Policy, Rule
from securemllib.policy.rules import CHECKS, Answer, Question
from securemllib.wire.job import RELEASE_OPERATION, OutputKind

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a policy says of a question.

    Attributes:
        rule: The rule that allows; None where the answer is no.
        rules: Each rule's answers by the check's name, in the policy's order.
        conditions: What the policy asks beside its rules, by name: that it has not expired, and that enough people approve.
    """

    rule: Rule | None
    rules: tuple[tuple[Rule, dict[str, Answer]], ...]
    conditions: dict[str, Answer]

    @property
    def code(self) -> str:
        """The name of the check that decided: ``allow`` where the answer is yes."""
        return self._deciding()[0]

    @property
    def deciding(self) -> Answer:
        """The answer that decided, its place counted from the policy's top."""
        return self._deciding()[1]

    @property
    def closest(self) -> tuple[Rule, dict[str, str]] | None:
        """The rule that names the analyst and misses least, with what it would need; None where no rule names the analyst."""
        missing = ((rule, _needs(answers)) for rule, answers in self.rules)
        return min((found for found in missing if "analyst" not in found[1]), key=lambda found: len(found[1]), default=None)

    def _deciding(self) -> tuple[str, Answer]:
        for name, answer in self.conditions.items():
            # Whether a release is approved matters once a rule allows it.
            if answer.needs is not None and (name != "approval" or self._position() is not None):
                return name, answer
        position = self._position()
        if position is not None:
            return "allow", Answer(place=("rules", position))
        if self.closest is None:
            return "analyst", Answer(place=("rules",), needs="a rule that names the analyst")
        rule, needs = self.closest
        position, answers = next((index, found) for index, (known, found) in enumerate(self.rules) if known is rule)
        name = next(iter(needs))
        return name, Answer(place=("rules", position, *answers[name].place), needs=answers[name].needs)

    def _position(self) -> int | None:
        return next((index for index, (_, answers) in enumerate(self.rules) if not _needs(answers)), None)


def judge(policy: Policy, question: Question) -> Verdict:
    """Return what a policy says.

    1. It has not expired.
    2. One of its rules passes every check; rules do not add up. The rule that has counted the job goes before the others: an accepted
       job does not move to a rule whose runs are used up, or that never counted it, for less strict conditions.
    3. As many approvers as it asks for approved a model's release.
    """
    rules = tuple((rule, {name: check(rule, question) for name, check in CHECKS.items()}) for rule in policy.rules)
    conditions = {"expired": _expiry(policy, question), "approval": _approval(policy, question)}
    passing = [rule for rule, answers in rules if not _needs(answers)]
    allowed = min(passing, key=lambda rule: rule.name != question.counted_by, default=None)
    refused = any(answer.needs is not None for answer in conditions.values())
    return Verdict(rule=None if refused else allowed, rules=rules, conditions=conditions)


def _needs(answers: dict[str, Answer]) -> dict[str, str]:
    return {name: answer.needs for name, answer in answers.items() if answer.needs is not None}


def _expiry(policy: Policy, question: Question) -> Answer:
    over = policy.expires is not None and question.time > policy.expires
    return Answer(place=("expires",), needs=f"a time until {policy.expires:%Y-%m-%dT%H:%M:%SZ}" if over else None)


def _approval(policy: Policy, question: Question) -> Answer:
    place = ("approvals", "model_release")
    quorum = policy.approvals.model_release
    if quorum is None or not any(output.kind is OutputKind.PLAIN_MODEL for output in question.outputs):
        return Answer(place=place)
    if question.operations[0][0] != RELEASE_OPERATION:
        # A model that is not trained yet is nothing that anybody can have approved.
        return Answer(place=place, needs=f"the model to leave by {RELEASE_OPERATION}, once it is trained")
    found = len(question.approvers & quorum.identities.keys())
    needs = f"{quorum.threshold} of {len(quorum.approvers)} approvals of this release; there are {found}"
    return Answer(place=place, needs=needs if found < quorum.threshold else None)
