"""Images as sequences of patches (Dosovitskiy et al. 2021, eq. 1).

B batch, C channels, H × W pixels, N patches, D model width.
"""

from torch import Tensor, nn

from cutaway.core.errors import DataError

Size = int | tuple[int, int]  # pixels: a square's side, or height and width


def height_width(size: Size) -> tuple[int, int]:
    """Both sides of a size."""
    return (size, size) if isinstance(size, int) else size


def count_patches(image_size: Size, patch_size: Size) -> int:
    """N: how many whole patches an image has; what is left over at the right and at the bottom is not seen."""
    (height, width), (down, across) = height_width(image_size), height_width(patch_size)
    return (height // down) * (width // across)


def patchify(image_CHW: Tensor, patch_size: Size) -> Tensor:
    """N × (C · height · width of a patch): each patch flattened, in the order in which `PatchEmbedding` embeds them."""
    down, across = height_width(patch_size)
    patches_CRSHW = image_CHW.unfold(1, down, down).unfold(2, across, across)
    return patches_CRSHW.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)


class PatchEmbedding(nn.Conv2d):
    """B × C × H × W to B × N × D: each patch, flattened, through one linear layer, row by row from the top left.

    A convolution whose stride is its kernel is that layer; checkpoints store it so.

    Args:
        channels: C.
        width: D.
        image_size: H and W of the images.
        patch_size: height and width of a patch, in pixels.
    """

    def __init__(self, channels: int, width: int, image_size: Size, patch_size: Size, bias: bool = True):
        patch = height_width(patch_size)
        super().__init__(channels, width, patch, patch, bias=bias)
        self.expected = (channels, *height_width(image_size))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Raises `DataError` for images of another size: positions are learned for one size."""
        found = tuple(pixels_BCHW.shape[1:])
        if found != self.expected:
            raise DataError(
                "the model does not take images of this size",
                field="pixels",
                value="×".join(map(str, found)),
                hint=f"channels × height × width must be {'×'.join(map(str, self.expected))}",
            )
        return super().forward(pixels_BCHW.to(self.weight.dtype)).flatten(2).transpose(1, 2)
