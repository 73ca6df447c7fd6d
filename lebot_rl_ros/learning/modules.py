"""What turns observations of any kind into features, and an actor-critic that learns its own."""

from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lebot_rl_ros.learning.method import Array, Box, Discrete, Space
from lebot_rl_ros.policy.networks import MLP, ActorCritic, Normaliser

IMAGE_CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # channels, kernel, stride
ROOT_TWO = 2.0**0.5  # gain of orthogonal layers before a rectifier


class Extractor(nn.Module):
    """Turns a batch of observations, as the world gives them, into features (N, ``size``)."""

    size: int  # numbers in the features of one observation


class Flatten(Extractor):
    """Numbers of any shape, one after another."""

    def __init__(self, space: Space) -> None:
        """Read the size from the space.

        Raises:
            ValueError: the observations are no numbers of a Box.
        """
        super().__init__()
        self.size = 1
        for length in _box('flatten', space).shape:
            self.size *= length

    def forward(self, observation: Tensor) -> Tensor:
        """(N, ...) -> (N, size)."""
        return observation.flatten(1).float()


class OneHot(Extractor):
    """One of n, as a table has it: 1 at the choice, else 0."""

    def __init__(self, space: Space) -> None:
        """Read n from the space.

        Raises:
            ValueError: the observations are not discrete.
        """
        super().__init__()
        if not isinstance(space, Discrete):
            raise ValueError(f'extractor one_hot needs discrete observations, not {space}')
        self.size = space.n

    def forward(self, observation: Tensor) -> Tensor:
        """(N,) of int64 -> (N, n)."""
        return F.one_hot(observation.long(), self.size).float()


class VectorFeatures(Extractor):
    """A small network of its own before actor and critic: layers of 64 with a rectifier each."""

    def __init__(self, space: Space, widths: tuple[int, ...] = (64, 64)) -> None:
        """Build orthogonal layers; :class:`Flatten` says what fits."""
        super().__init__()
        self.flatten = Flatten(space)
        self.layers = MLP([self.flatten.size, *widths], 'relu', gain=ROOT_TWO)
        self.size = widths[-1]

    def forward(self, observation: Tensor) -> Tensor:
        """(N, ...) -> (N, size)."""
        return torch.relu(self.layers(self.flatten(observation)))


class ImageFeatures(Extractor):
    """Three convolutions and a layer over pictures (Mnih et al., Nature 518, 2015).

    Pictures are (H, W, C), or (C, H, W) as stacks of frames are: the shorter of the first and the
    last axis has the channels. Bytes are scaled to 0..1; other numbers are taken as they are.
    """

    def __init__(self, space: Space, features: int = 512) -> None:
        """Build orthogonal layers for pictures of at least 36 x 36.

        Raises:
            ValueError: the observations are no pictures, or too small.
        """
        super().__init__()
        shape = _box('image', space).shape
        if len(shape) != 3:
            raise ValueError(f'extractor image needs pictures (H, W, C) or (C, H, W), not {shape}')
        self.channels_last = shape[2] <= shape[0]
        channels, *sides = (shape[2], *shape[:2]) if self.channels_last else shape
        layers: list[nn.Module] = []
        for count, kernel, stride in IMAGE_CONVOLUTIONS:
            layers += [nn.Conv2d(channels, count, kernel, stride), nn.ReLU()]
            sides = [(side - kernel) // stride + 1 for side in sides]
            channels = count
        if min(sides) < 1:
            raise ValueError(f'extractor image needs pictures of 36 x 36 or more, not {shape}')
        linear = nn.Linear(channels * sides[0] * sides[1], features)
        self.layers = nn.Sequential(*layers, nn.Flatten(), linear, nn.ReLU())
        self.size = features
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(layer.weight, ROOT_TWO)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, observation: Tensor) -> Tensor:
        """(N, H, W, C) or (N, C, H, W) -> (N, size)."""
        x = observation.float() / 255.0 if observation.dtype == torch.uint8 else observation
        return self.layers(x.movedim(-1, 1) if self.channels_last else x)


Build = Callable[[Space], Extractor]
EXTRACTORS: dict[str, Build] = {
    'flatten': Flatten,
    'one_hot': OneHot,
    'vector': VectorFeatures,
    'image': ImageFeatures,
}


def make_extractor(choice: str | Build | None, space: Space) -> Extractor:
    """Build an extractor: one by its name, one's own, or the usual one for a space.

    Args:
        choice: a name in ``EXTRACTORS``, or what builds one from the space of an observation.
            None takes ``one_hot`` for choices, ``image`` for pictures of bytes, else ``flatten``.
        space: of one observation.

    Raises:
        ValueError: there is none of that name, or it does not fit the space.
    """
    if choice is None:
        choice = 'flatten'
        if isinstance(space, Discrete):
            choice = 'one_hot'
        elif len(space.shape) == 3 and space.dtype == 'uint8':
            choice = 'image'
    if not isinstance(choice, str):
        return choice(space)
    if choice not in EXTRACTORS:
        raise ValueError(f'no extractor {choice!r}; choices are {", ".join(EXTRACTORS)}')
    return EXTRACTORS[choice](space)


class FeatureActorCritic(ActorCritic):
    """Actor and critic over features that are learned with them, apart or shared."""

    def __init__(
        self,
        space: Space,
        actions: int,
        hidden: Sequence[int],
        activation: str,
        initial_std: float,
        *,
        extractor: str | Build | None = None,
        shared: bool = False,
    ) -> None:
        """Build all of it.

        Args:
            space: of one observation.
            actions: numbers that the actor says of an action.
            hidden: widths of the layers over the features.
            activation: elu, relu or tanh.
            initial_std: of continuous actions.
            extractor: see :func:`make_extractor`.
            shared: one extractor and one stack of hidden layers for both; only the last layers
                are apart. Else each has its own.
        """
        features = make_extractor(extractor, space)
        size, apart = features.size, tuple(hidden)
        if shared and hidden:
            size, apart = hidden[-1], ()
        super().__init__(size, actions, apart, activation, initial_std)
        self.normaliser = Normaliser(space.shape[0] if is_vector(space) else 0)
        self.extractor = features
        self.critic_extractor = None if shared else make_extractor(extractor, space)
        self.trunk: MLP | None = None
        if shared and hidden:
            self.trunk = MLP([features.size, *hidden], activation, ROOT_TWO)

    def features(self, x: Tensor) -> Tensor:
        """What the actor gets to see (N, size) of observations (N, ...), normalised if vectors."""
        features: Tensor = self.extractor(x)
        return features if self.trunk is None else self.trunk.activation(self.trunk(features))

    def critic_features(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """What the critic gets to see (N, size); ``features``, if known, spare work if shared."""
        if self.critic_extractor is not None:
            own: Tensor = self.critic_extractor(x)
            return own
        return self.features(x) if features is None else features

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """What the actor says (N, actions) and values (N,) for raw observations (N, ...)."""
        x = self.normaliser(observation) if len(self.normaliser.mean) else observation
        features = self.features(x)
        return self.actor(features), self.critic(self.critic_features(x, features)).squeeze(-1)


def is_vector(space: Space) -> TypeGuard[Box]:
    """Whether observations are vectors of real numbers, which a network can take as they are."""
    return isinstance(space, Box) and len(space.shape) == 1 and space.dtype.startswith('float')


def as_input(observation: Array) -> Tensor:
    """Observations for a network: float32, or what bytes and choices are; no copy if it can."""
    tensor = torch.from_numpy(observation)
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def last_hidden(network: MLP, x: Tensor) -> Tensor:
    """What the last layer of an MLP gets to see, (..., widths[-2])."""
    for layer in list(network)[:-1]:
        x = network.activation(layer(x))
    return x


def _box(name: str, space: Space) -> Box:
    if not isinstance(space, Box):
        raise ValueError(f'extractor {name} needs observations of a Box, not {space}')
    return space
