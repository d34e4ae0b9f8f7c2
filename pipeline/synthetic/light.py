"""What sun, lens and sensor do to an evenly lit picture. It knows nothing about what the picture shows."""

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["Light", "expose", "random_light"]


@dataclass(frozen=True)
class Light:
    """gain: factor per channel, RGB; fall: how much darker one side is, 0 to 1, towards `angle` (radians).

    shadow: a band across the picture with its middle and half width in picture widths, its darkness 0 to 1 (0: none)
    and its angle. blur: sigma in pixels. noise: sigma in grey levels.
    """

    gain: tuple[float, float, float]
    fall: float
    angle: float
    shadow: tuple[float, float, float, float]
    blur: float
    noise: float


def random_light(rng: np.random.Generator) -> Light:
    """From a clear noon to a dull evening."""
    exposure, warmth = rng.uniform(0.68, 1.22), rng.normal(0, 0.07)
    darkness = rng.uniform(0.2, 0.5) if rng.random() < 0.4 else 0.0
    return Light(
        gain=(exposure * (1 + warmth), exposure, exposure * (1 - warmth)),
        fall=rng.uniform(0, 0.35),
        angle=rng.uniform(0, 2 * np.pi),
        shadow=(rng.uniform(-0.4, 0.4), rng.uniform(0.08, 0.3), darkness, rng.uniform(0, np.pi)),
        blur=rng.uniform(0.2, 1.0),
        noise=rng.uniform(1.5, 7.0),
    )


def expose(picture: np.ndarray, light: Light, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 RGB under `light`; `rng` gives the noise of the sensor."""
    height, width = picture.shape[:2]
    y, x = np.ogrid[-height / 2 : height / 2, -width / 2 : width / 2]
    x, y = (x / width).astype(np.float32), (y / width).astype(np.float32)
    bright = 1 - light.fall * (0.5 + x * np.cos(light.angle) + y * np.sin(light.angle))
    middle, half, darkness, angle = light.shadow
    if darkness:
        distance = np.abs(x * np.cos(angle) + y * np.sin(angle) - middle)
        bright = bright * (1 - darkness * np.clip((half - distance) / 0.03, 0, 1))
    lit = picture * bright[:, :, None] * np.array(light.gain, np.float32)
    lit = cv2.GaussianBlur(lit, (0, 0), light.blur)
    lit += light.noise * rng.standard_normal(lit.shape, dtype=np.float32)
    return np.clip(lit, 0, 255).astype(np.uint8)
