"""Where frames come from: a picture, a folder of pictures, a video file, or a live camera or stream.

A file gives every frame, in order, the same each time. A live source gives the newest frame only: what arrives while
the network is busy is counted and dropped, and a camera that is lost is opened again. Knows nothing of what is done
with the frames.
"""

from deploy.sources.live import LiveSource
from deploy.sources.open import open_source, shown_name
from deploy.sources.settings import SourceSettings
from deploy.sources.source import EndOfSource, Source

__all__ = ["EndOfSource", "LiveSource", "Source", "SourceSettings", "open_source", "shown_name"]
