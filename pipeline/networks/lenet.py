"""LeNet-5, as LeCun, Bottou, Bengio and Haffner describe it (Gradient-based learning applied to document recognition,
1998, section II.B), in today's parts.

C1, C3 and C5 are the convolutions; C5 covers what S4 leaves of 32 x 32 pixels and so is connected to all of it. Here C3
reads every map of S2 (theirs skips some, by their table I), pooling averages, and the last layer is linear (theirs has
radial basis functions).
"""

from collections import OrderedDict

from torch import Tensor, nn

__all__ = ["LeNet5"]


class LeNet5(nn.Module):
    """Classifier of pictures of 32 x 32 pixels.

    Args:
        classes: number of outputs.
        channels: of the picture; 1 for the digits it was made for.
    """

    def __init__(self, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                c1=nn.Conv2d(channels, 6, 5),
                t1=nn.Tanh(),
                s2=nn.AvgPool2d(2),
                c3=nn.Conv2d(6, 16, 5),
                t3=nn.Tanh(),
                s4=nn.AvgPool2d(2),
                c5=nn.Conv2d(16, 120, 5),
                t5=nn.Tanh(),
            )
        )
        self.classifier = nn.Sequential(OrderedDict(f6=nn.Linear(120, 84), t6=nn.Tanh(), output=nn.Linear(84, classes)))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, 32, 32) float to scores (batch, classes) before softmax."""
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores
