"""One door for the three families of detectors: Darknet's, Ultralytics' and torchvision's."""
