"""The image: NVIDIA's tree with what flies in it, in steps that can be taken up again. Knows nothing of flashing."""
