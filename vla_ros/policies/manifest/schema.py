# SPDX-License-Identifier: Apache-2.0
"""What a manifest says, as value types that are consistent in themselves.

Letters: H rows, A columns of an action, K candidates, n images, L tokens, S state values.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.policies.action_space import ActionSpace

FORMAT = 1
DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
CACHE_GRAPHS = ("cells", "fuse")
GRAMMARS = ("none", "pick_place")
Dimension = int | str


class Kind(enum.Enum):
    """Which graphs there are."""

    SPLIT = "split"  # `slow` makes a latent of images and words, `fast` makes rows of it
    CHUNK = "chunk"  # `chunk` makes rows of images, words and state


class Role(enum.Enum):
    """What a tensor means."""

    IMAGES = "images"  # uint8 (1, n, h, w, 3), or (1, h, w, 3) of one camera; RGB
    IMAGE_MASK = "image_mask"  # bool (1, n): which cameras gave an image
    INSTRUCTION = "instruction"  # int64 (1, L): tokens, padded
    STATE = "state"  # float32 (1, S): fields of the robot state
    LATENT = "latent"  # any: an output of `slow`, an input of `fast`; of `chunk`, for `velocity`
    PART_ORIGIN = "part_origin"  # int64 (1, 2): row and column of the first cell of a part
    FEATURES = "features"  # float32 (1, C, rows, columns): what `cells` makes of a part, per cell
    LATENT_AGE = "latent_age_s"  # float32 (1, 1): since the exposure of its oldest image [s]
    NOISE = "noise"  # float32 (1, H, A), or (1, K, H, A) with candidates: standard normal
    PREFIX = "prefix"  # float32 (1, H, A): rows to continue, in the columns of the actions
    PREFIX_ROWS = "prefix_rows"  # int64 (1, 1): how many of them are valid
    FLOW_ROWS = "flow_rows"  # float32 (1, H, A): rows in model space, while they are denoised
    FLOW_TIME = "flow_time"  # float32 (1, 1): 0 noise, 1 rows
    COTANGENT = "cotangent"  # float32 (1, H, A): what the Jacobian is multiplied by
    ACTIONS = "actions"  # float32 (1, H, A), or (1, K, H, A) with candidates
    SCORES = "scores"  # float32 (1, K): larger is better
    ENERGY = "energy"  # float32 (1, K): smaller is better
    UNCERTAINTY = "uncertainty"  # float32 (1, 1): 0 is certain
    DONE = "done"  # float32 (1, 1): probability that the task is done
    VELOCITY = "velocity"  # float32 (1, H, A): d flow_rows / d flow_time
    VJP = "vjp"  # float32 (1, H, A): cotangent^T d velocity / d flow_rows


@dataclass(frozen=True, kw_only=True)
class ImageDetails:
    """Which cameras an image input shows, and how their images are brought to its size."""

    cameras: tuple[str, ...]
    resize: str = setting(
        "area", "how images are brought to size", choices=("area", "linear", "nearest", "none")
    )
    crop_px: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0, 0.0),
        "cut off first: top, bottom, left, right",
        unit="px",
        ge=0,
        le=4096,
    )
    max_age_s: float = setting(0.5, "older images are not looked at", unit="s", ge=0.01, le=10.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ConfigError(f"cameras must be different names, got {list(self.cameras)}")
        if len(self.crop_px) != 4 or any(px != int(px) for px in self.crop_px):
            raise ConfigError(
                f"crop_px must be [top, bottom, left, right], got {list(self.crop_px)}"
            )


@dataclass(frozen=True, kw_only=True)
class InstructionDetails:
    """How words become tokens."""

    vocabulary: str = setting("", "file: words and their numbers, or a tokenizer.json")
    tokenizer: str = setting(
        "words",
        "what the file is: a plain vocabulary, or of the tokenizers library",
        choices=("words", "tokenizers"),
    )
    grammar: str = setting(
        "none",
        "what a sentence must say beside being made of known words: nothing, or which cube goes "
        "into which bowl",
        choices=GRAMMARS,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.vocabulary:
            raise ConfigError("vocabulary must name a file")


@dataclass(frozen=True, kw_only=True)
class StateDetails:
    """Which fields of the robot state, in which order."""

    fields: tuple[str, ...]
    n_joints: int = setting(0, "joints of the robot, for fields of one value each", ge=0, le=64)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class NoiseDetails:
    """When noise is drawn."""

    draw: str = setting(
        "call",
        "for every call, once per episode and instruction, or zeros",
        choices=("call", "episode", "zeros"),
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class LatentAgeDetails:
    """Which ages of latents a graph is told."""

    told_up_to_s: float = setting(
        3600.0,
        "of older latents it is told -1, not known; only for graphs that were trained with that",
        unit="s",
        ge=0.0,
        le=3600.0,
    )

    def __post_init__(self) -> None:
        check_fields(self)


Details = ImageDetails | InstructionDetails | StateDetails | NoiseDetails | LatentAgeDetails | None


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        dtype: a NumPy name.
        shape: the first dimension may be a name, as in the graph; it is then 1.
        steps: of a tensor that differs in size from call to call: per dimension 0 where it is
            always that of ``shape``, else it is any multiple of the step up to that of ``shape``.
        source: of a latent input: the output of ``slow`` that it is; empty: of the same name.
    """

    name: str
    role: Role
    dtype: str
    shape: tuple[Dimension, ...]
    details: Details = None
    steps: tuple[int, ...] = ()
    source: str = ""

    @property
    def size(self) -> tuple[int, ...]:
        """The shape in numbers, at its largest."""
        return tuple(1 if isinstance(d, str) else d for d in self.shape)

    @property
    def smallest(self) -> tuple[int, ...]:
        """The shape at its smallest."""
        steps = self.steps or (0,) * len(self.shape)
        return tuple(step or d for d, step in zip(self.size, steps, strict=True))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is possible."""
        if not self.steps:
            return shape == self.size
        return len(shape) == len(self.steps) and all(
            found == most if step == 0 else 0 < found <= most and found % step == 0
            for found, most, step in zip(shape, self.size, self.steps, strict=True)
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.size) * np.dtype(self.dtype).itemsize

    def zeros(self) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        """Return an array of this type and shape."""
        return np.zeros(self.size, dtype=self.dtype)


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One ONNX file."""

    name: str
    file: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def place(self) -> str:
        """Where the manifest describes it."""
        return f"{'cache' if self.name in CACHE_GRAPHS else 'graphs'}.{self.name}"

    @property
    def varies(self) -> bool:
        """Whether it is run on tensors of different sizes."""
        return any(tensor.steps for tensor in self.inputs + self.outputs)

    def input(self, role: Role) -> TensorSpec | None:
        """Return the input of a role, or None."""
        return next((t for t in self.inputs if t.role is role), None)

    def output(self, role: Role) -> TensorSpec | None:
        """Return the output of a role, or None."""
        return next((t for t in self.outputs if t.role is role), None)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How often the halves are meant to run; what is measured may differ."""

    slow_hz: float = setting(5.0, "of `slow` or `chunk`", unit="Hz", ge=0.01, le=1000.0)
    fast_hz: float = setting(30.0, "of `fast`", unit="Hz", ge=0.01, le=1000.0)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What the policy can do beyond rows; must agree with the tensors of its graphs."""

    age_input: bool = setting(False, "`fast` is told how old its latent is")
    prefix_rows_max: int = setting(0, "longest prefix it was trained to continue", ge=0, le=1000)
    denoising_steps: int = setting(0, "steps of graph `velocity`; 0: none", ge=0, le=1000)
    vjp: bool = setting(False, "`velocity` gives the vector-Jacobian product")
    candidates: int = setting(1, "chunks of one call, K", ge=1, le=256)
    ranking: str = setting(
        "none", "what candidates are ranked by", choices=("none", "scores", "energy")
    )
    uncertainty: bool = setting(False, "says how uncertain it is")
    projected_state: bool = setting(
        False, "trained with states ahead of the images, as strategies that project it show them"
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ModelSpace:
    """Rows while they are denoised: action = mean + scale * x, per column."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if any(value <= 0.0 for value in self.scale):
            raise ConfigError(f"scale must be > 0, got {list(self.scale)}")


@dataclass(frozen=True, kw_only=True)
class CacheSpec:
    """The slow half once more, in two graphs: of a scene only what changed is computed anew.

    Attributes:
        cells: a part of one camera's image, of any size, to features of its cells.
        fuse: features of the whole image, and what else is seen, to the latent.
    """

    cell_px: int = setting(0, "side of a cell of the image", unit="px", ge=1, le=256)
    halo_cells: int = setting(
        -1, "how far a pixel has an effect on features, in cells", ge=0, le=1024
    )
    cells: GraphSpec
    fuse: GraphSpec

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """An exported policy.

    Attributes:
        max_age_s: what was seen longer ago must not be acted on [s].
        normalisation_sha256: of the statistics inside the graphs; halves that differ in it do not
            understand each other although their shapes agree.
        files: sha256 of every file that is not a graph, by path below the folder.
        cache: how the slow half is run with a cache; None: it cannot be.
    """

    name: str
    kind: Kind
    max_age_s: float
    normalisation_sha256: str
    graphs: Mapping[str, GraphSpec]
    actions: ActionSpace
    abilities: Abilities = field(default_factory=Abilities)
    rates: Rates = field(default_factory=Rates)
    model_space: ModelSpace | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    cache: CacheSpec | None = None

    def demand_cache(self) -> CacheSpec:
        """Return how the slow half is run with a cache.

        Raises:
            ConfigError: if it cannot be.
        """
        if self.cache is None:
            raise ConfigError(
                f"{self.name} cannot be run with a cache: its manifest has no section cache. "
                "Export it anew (vla-ros policy export), or run it without"
            )
        return self.cache

    @property
    def all_graphs(self) -> dict[str, GraphSpec]:
        """Every graph by name, those of the cache too."""
        cache = () if self.cache is None else (self.cache.cells, self.cache.fuse)
        return {**self.graphs, **{graph.name: graph for graph in cache}}

    @property
    def seeing(self) -> GraphSpec:
        """The graph that sees images and words: ``slow`` or ``chunk``."""
        return self.graphs["slow" if self.kind is Kind.SPLIT else "chunk"]

    @property
    def acting(self) -> GraphSpec:
        """The graph that makes rows: ``fast`` or ``chunk``."""
        return self.graphs["fast" if self.kind is Kind.SPLIT else "chunk"]

    @property
    def all_files(self) -> dict[str, str]:
        """The sha256 of every file that the policy consists of."""
        graphs = {g.file: g.sha256 for g in self.all_graphs.values()}
        return graphs | dict(self.files)
