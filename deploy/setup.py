"""Installs what flies by itself: no torch, nothing of the workstation. Python 3.6 as on a Jetson TX2."""

import re
from pathlib import Path

from setuptools import find_packages, setup

TEXT = (Path(__file__).parent / "version.py").read_text()

setup(
    name="skylight-drone",
    version=re.findall('^VERSION = "(.+)"$', TEXT, re.MULTILINE)[0],
    description="Runs a Skylight bundle on a camera or a video",
    license="Apache-2.0",
    python_requires=">=3.6",
    packages=["deploy"] + ["deploy." + name for name in find_packages(".")],
    package_dir={"deploy": "."},
    package_data={"deploy.web": ["static/*"]},
    # On a Jetson, numpy and OpenCV come from its own system packages; elsewhere install skylight-drone[cpu].
    # Where trusted keys are set up, signatures are checked by PyNaCl, of which 1.5.0 is the last for Python 3.6.
    # The autopilot is spoken to by pymavlink, of which 2.4.41 is one for Python 3.6; it is LGPL-3.0.
    extras_require={
        "cpu": ["numpy", "opencv-python-headless<5", "onnxruntime"],
        "signature": ["PyNaCl>=1.5"],
        "autopilot": ["pymavlink>=2.4.41"],
        "web": ["tornado>=6.1"],
    },
    entry_points={"console_scripts": ["skylight-detect=deploy.cli:main"]},
)
