"""`lebot bag recover`: a bag that was cut off by a kill or a power loss becomes readable again."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
