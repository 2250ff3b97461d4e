"""What the fast off-policy algorithms share: when their code is used, and how they act. Must not know losses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch as th
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.fast_updates.self_test import SelfTested, same_forward_pass, same_update

TEST_ROWS = 16


class Nets(Protocol):
    """The networks of an off-policy policy."""

    @property
    def policy(self) -> Any:
        """The policy that has them."""
        ...

    def act(self, observations: Any) -> th.Tensor:
        """The actions of a policy during a rollout, as ``policy._predict`` returns them."""
        ...


class FastOffPolicy(SelfTested, OffPolicyAlgorithm):
    """What the fast DQN and actor-critics share."""

    _nets: Any = None
    nets_found = False

    def nets(self) -> Any:
        """The policy's networks, or None if SB3's own code is to be used."""
        if not self.nets_found or (self._nets is not None and self._nets.policy is not self.policy):
            self._nets = self._find_nets()
            self.nets_found = True
        return self._nets

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> Any:
        """As SB3's, with a faster choice of the policy's action for its duration."""
        nets = self.nets()
        if nets is None or not self.passes("action", lambda: self._acts_the_same(nets)):
            return super().collect_rollouts(*args, **kwargs)
        with _acting_by(nets):
            return super().collect_rollouts(*args, **kwargs)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """As SB3's. Raises NonFiniteTraining."""
        nets = self.nets()
        if nets is None or not self.passes("update", self._updates_the_same):
            self.sb3_train(gradient_steps, batch_size)
        else:
            self.fast_train(nets, gradient_steps, batch_size)

    def sb3_train(self, gradient_steps: int, batch_size: int) -> None:
        """SB3's own update."""
        super().train(gradient_steps, batch_size)

    def fast_train(self, nets: Any, gradient_steps: int, batch_size: int) -> None:
        """The same update, faster. Raises NonFiniteTraining."""
        _sb3_internals.set_learning_rate(self, self._optimizers())
        with th.no_grad():
            self._update(nets, gradient_steps, batch_size)

    def _sampled(self, batch_size: int) -> tuple[Any, Any]:
        """A batch of transitions as SB3 draws it, and the discount of each one's next value."""
        data: Any = self.replay_buffer.sample(batch_size, env=_sb3_internals.vec_normalize(self))  # type: ignore[union-attr]
        return data, data.discounts if data.discounts is not None else self.gamma

    def _find_nets(self) -> Nets | None:
        raise NotImplementedError

    def _optimizers(self) -> Sequence[th.optim.Optimizer]:
        """In the order in which SB3 sets their learning rate."""
        raise NotImplementedError

    def _update(self, nets: Any, gradient_steps: int, batch_size: int) -> None:
        raise NotImplementedError

    def _acts_the_same(self, nets: Nets) -> bool:
        last = _sb3_internals.last_observation(self)
        if last is None:
            return True
        fast = _predict(nets)
        greedy = isinstance(self.action_space, spaces.Discrete)  # else the policy draws them
        return same_forward_pass(
            lambda: self.policy.predict(last.normalized, deterministic=greedy)[:1], lambda: fast(last.normalized)[:1]
        )

    def _updates_the_same(self) -> bool:
        return same_update(
            self,
            lambda twin: twin.sb3_train(1, TEST_ROWS),
            lambda twin: twin.fast_train(twin.nets(), 1, TEST_ROWS),
            lambda twin: twin.prepare_test(),
        )

    def prepare_test(self) -> None:
        """Lets a copy use its own networks, and change its targets and its actor too in one update, by much."""
        _sb3_internals.use_own_networks(self)
        self.tau, self.target_update_interval, self.policy_delay = 0.5, 1, 1


@contextlib.contextmanager
def _acting_by(nets: Nets) -> Iterator[None]:
    nets.policy.predict = _predict(nets)
    try:
        yield
    finally:
        del nets.policy.predict


def _predict(nets: Nets) -> Any:
    """``policy.predict`` for batches, which is how it is called during a rollout."""
    policy = nets.policy
    shape = policy.action_space.shape or ()

    def predict(observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False) -> Any:
        with th.inference_mode():
            tensors, _ = policy.obs_to_tensor(observation)
            actions: Any = nets.act(tensors).numpy().reshape((-1, *shape))
        return (policy.unscale_action(actions) if policy.squash_output else actions), state

    return predict
