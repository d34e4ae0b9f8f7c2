"""Darknet, exactly: cfg and weights files, the network, and the yolo layer's decode and loss."""

from pipeline.darknet.cfg import Cfg, adapted, network_cfg, read_cfg, shipped_networks, with_options
from pipeline.darknet.network import DarknetNetwork
from pipeline.darknet.weights import Header, load_weights, save_weights

__all__ = [
    "Cfg",
    "DarknetNetwork",
    "Header",
    "adapted",
    "load_weights",
    "network_cfg",
    "read_cfg",
    "save_weights",
    "shipped_networks",
    "with_options",
]
