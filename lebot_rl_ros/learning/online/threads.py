"""How much of the machine the learning may take."""

import torch


def use_threads(count: int) -> None:
    """Let torch compute in so many threads; more only wait for each other in small networks."""
    torch.set_num_threads(count)
