"""Arguments of the native convolution."""

from enum import IntEnum, auto


class Epilogue(IntEnum):
    """The last step of a convolution, after the bias and while its output is in the cache."""

    NONE = 0
    RELU = 1
    MASK = 2
    """Zero where the ReLU before the convolution's forward pass was off: a gradient's."""
    AVERAGE = 3
    """ReLU and 2 x 2 averages, with the code of every window; see ``stylekernels.ops.pool``."""
    MAXIMUM = 4
    """Likewise maxima."""


class Argument(IntEnum):
    """Places of the native function's arguments."""

    COUNTER = 0
    SLOTS = auto()
    BLOCKS = auto()
    TILES = auto()  # in all
    BLOCK_TILES = auto()  # in a block, a multiple of a product's rows
    COLUMNS = auto()  # of tiles
    IN_CHANNELS = auto()
    OUT_CHANNELS = auto()
    PARTS = auto()  # of the outputs, one a thread
    PART_GROUPS = auto()  # groups of outputs in a part
    IN_HEIGHT = auto()
    OUT_HEIGHT = auto()
    WIDTH = auto()
    IN_ROW = auto()  # floats from a row to the next
    OUT_ROW = auto()
    MASK_ROW = auto()
    CODE_ROW = auto()  # bytes
    TOP = auto()  # rows of zeros above the input
    X = auto()
    KERNELS = auto()  # [groups, panels, C, 9, panel]
    BIAS = auto()
    EPILOGUE = auto()
    MASK = auto()  # a map like the output
    Y = auto()  # the output, or its pooling
    CODE = auto()  # of the pooling
    WORKSPACE = auto()
    WORKSPACE_SIZE = auto()  # floats a thread
